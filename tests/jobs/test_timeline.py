"""The timeline of a job: attempts, their steps and waits, and what extensions know, on one scale."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.extension import Event
from notifications.models import Attempt, Job, Notification, Wait
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.extension import faulty
from tests.jobs import tasks
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def start():
    return timezone.now() - timedelta(hours=1)


@pytest.fixture
def job(user, start):
    """Return a job that waited 10 s in the queue, failed, was lost, and has succeeded in its third attempt."""
    id = tasks.noop.using(owner=user, title="Ship").enqueue().id
    after = start.__add__
    Attempt.objects.create(
        job_id=id,
        number=1,
        started_at=after(timedelta(seconds=10)),
        ended_at=after(timedelta(seconds=40)),
        outcome="failed",
        traceback="Traceback",
    )
    lost = {"started_at": after(timedelta(seconds=50)), "ended_at": after(timedelta(seconds=60))}
    Attempt.objects.create(job_id=id, number=2, outcome="lost", **lost)
    times = {"created_at": start, "started_at": after(timedelta(seconds=80))}
    ended = {"state": "succeeded", "finished_at": after(timedelta(seconds=100)), "seq": 1}
    Job.objects.filter(pk=id).update(attempt=3, max_attempts=4, **times, **ended)
    return Job.objects.get(pk=id)


def add_wait(job, start, first, last, *, attempt, name="nap"):
    ended = None if last is None else start + timedelta(seconds=last)
    times = {"created_at": start + timedelta(seconds=first), "ended_at": ended}
    how = "due" if last else ""
    Wait.objects.create(
        job=job.pk, name=name, kind="pause", how=how, attempt=attempt, is_awaited=True, **times
    )


def read(job):
    """Return the timeline of the page of a job."""
    client = Client()
    client.force_login(job.user)
    return read_part(client, job).context["timeline"]


def lines(timeline):
    return [f"{row.kind} {row.name}: {row.note} {row.took}".rstrip(": ") for row in timeline.rows]


def test_attempts_are_on_one_scale(job):
    """From the queue to the end, each with what came of it; the last one is not stored apart from the job."""
    timeline = read(job)
    assert lines(timeline) == [
        "queue Queue:  10\xa0s",
        "attempt Attempt 1: Failed 30\xa0s",
        "attempt Attempt 2: Worker lost 10\xa0s",
        "attempt Attempt 3:  20\xa0s",
    ]
    bars = [(row.left, row.width) for row in timeline.rows]
    assert bars == [("0.00%", "10.00%"), ("10.00%", "30.00%"), ("50.00%", "10.00%"), ("80.00%", "20.00%")]
    assert [row.level for row in timeline.rows] == ["", "error", "error", "success"]
    assert timeline.is_telling


def test_waits_are_in_their_attempt(job, start):
    """One that waits is executed twice: it begins before the last execution, and how long it ran is not known."""
    add_wait(job, start, 62, 79, attempt=3)
    timeline = read(job)
    assert lines(timeline)[3:] == ["attempt Attempt 3", "step nap:  17\xa0s"]
    assert [row.left for row in timeline.rows[3:]] == ["62.00%", "62.00%"]


def test_what_lasts_goes_to_the_end(job, start):
    """A job that is queued after a wait has not the number of its attempt, and one that waits goes on."""
    add_wait(job, start, 85, None, attempt=3)
    active = {"seq": 0, "finished_at": None}
    Job.objects.update(state="waiting", **active)
    timeline = read(Job.objects.get())
    assert lines(timeline)[3:] == ["attempt Attempt 3", "step nap:  Waiting"]
    for row in timeline.rows[3:]:
        assert row.is_open and float(row.left[:-1]) + float(row.width[:-1]) == pytest.approx(100, abs=0.02)
    Wait.objects.update(ended_at=start + timedelta(seconds=90), how="due")
    Job.objects.update(state="queued", attempt=2)
    assert lines(read(Job.objects.get()))[3:] == ["attempt Attempt 3: Queued", "step nap:  5\xa0s"]


def test_a_job_that_waits_for_its_retry(job):
    """Its attempt has failed, though its number is that of the first."""
    Attempt.objects.filter(number=2).delete()
    Job.objects.update(state="queued", attempt=1, finished_at=None, seq=0)
    assert lines(read(Job.objects.get())) == ["queue Queue:  10\xa0s", "attempt Attempt 1: Failed 30\xa0s"]


def test_the_queue_is_shown_only_if_the_first_start_is_known(job, start):
    """Not without its attempts, nor if the only one has waited, and began again later."""
    Attempt.objects.all().delete()
    assert lines(read(job)) == ["attempt Attempt 3:  20\xa0s"]
    add_wait(job, start, 62, 79, attempt=1)
    Job.objects.update(attempt=1)
    assert lines(read(Job.objects.get())) == ["attempt Attempt 1", "step nap:  17\xa0s"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "succeeded"}, ["attempt Attempt 1:  1\xa0s"]),
        ({"state": "cancelled"}, ["attempt Attempt 1: Cancelled 1\xa0s"]),
        ({"state": "queued", "started_at": None, "attempt": 0}, []),
    ],
)
def test_one_attempt_alone_tells_nothing(user, start, fields, expected):
    tasks.noop.using(owner=user).enqueue()
    times = {"created_at": start, "started_at": start, "finished_at": start + timedelta(seconds=1)}
    Job.objects.update(**{"attempt": 1, "seq": 1, **times, **fields})
    timeline = read(Job.objects.get())
    assert (lines(timeline), timeline.is_telling) == (expected, False)


@pytest.fixture
def extended(monkeypatch, job):
    """An extension that knows what lasted, an event, and one that is to come."""

    def events_of(subject, reader):
        start = job.started_at
        written = Event(start, f"Written for {reader}", until=start + timedelta(seconds=5))
        return [Event(job.finished_at, "Called"), Event(None, "Will be called"), written]

    faulty.install(monkeypatch, "events_of", fault=events_of)


def test_what_extensions_know_is_among_the_rows(job, user, user_client, start, extended):
    """With a bar for what lasted, and last what has no time. The list of how one was notified has it only once."""
    timeline = read(job)
    assert lines(timeline)[3:] == [
        "attempt Attempt 3:  20\xa0s",
        f"span Written for {user.pk}:  5\xa0s",
        "event Called",
        "event Will be called",
    ]
    assert [row.width for row in timeline.rows[4:]] == ["5.00%", "", ""]
    note = Notification.objects.create(user=user, job=job.pk, title="Shipped", created_at=start)
    shown = user_client.get(f"/notifications/{note.pk}/?part=pane").context["timeline"]
    assert [row.kind for row in shown.rows] == [row.kind for row in timeline.rows[:4]]


@pytest.fixture
def failed(job, start, monkeypatch):
    """The job has failed in its third attempt, at a call of an extension that failed in the first one too."""
    Job.objects.update(state="failed")
    moment = start.__add__
    second = timedelta(seconds=1)

    def steps_of(job, limit, *, with_results, with_unfinished):
        unfinished = [
            step("label", 1, 12, 28 * second, "failed"),
            step("label", 2, 55, None, "lost"),
            step("probe", 3, 84, second / 2, "failed"),
            step("label", 3, 85, 15 * second, "failed"),
        ]
        returned = [step(f"step {number}", 3, 81 + number / 10, second / 25) for number in range(12)]
        steps = [each for each in [*returned, *unfinished] if each["attempt"] <= job.attempt]
        return steps, len(steps)

    def step(name, attempt, seconds, took, state="returned"):
        started_at = moment(seconds * second)
        return {"name": name, "attempt": attempt, "started_at": started_at, "took": took, "state": state}

    faulty.install(monkeypatch, "steps_of", fault=steps_of)
    return Job.objects.get()


def test_where_a_job_has_failed(failed, user_client):
    """The last call of its last attempt, also if it was lost; such a one has lasted until its attempt was."""
    timeline = read(failed)
    assert [row.name for row in timeline.rows if row.is_cause] == ["label"] == [timeline.cause]
    assert timeline.rows[-1].is_cause and timeline.took == "1.7\xa0min"
    shown = lines(timeline)
    assert {"step label: Failed 28\xa0s", "step label: Interrupted", "step step 0:  40\xa0ms"} <= {*shown}
    (lost,) = [row for row in timeline.rows if row.note == "Interrupted"]
    assert (lost.left, lost.width, lost.is_open) == ("55.00%", "5.00%", False)
    text = user_client.get(f"/notifications/jobs/{failed.pk}/").text
    assert 'href="#notifications-cause">Failed at label</a>' in text
    assert text.count('id="notifications-cause"') == 1
    Job.objects.update(attempt=2)
    assert [row.note for row in read(Job.objects.get()).rows if row.is_cause] == ["Interrupted"]
    Job.objects.update(attempt=4)
    assert read(Job.objects.get()).cause == ""  # its last attempt has failed elsewhere
    Job.objects.update(state="succeeded", attempt=3)
    assert read(Job.objects.get()).cause == ""


def test_a_lost_step_has_a_bar_while_its_job_waits_for_a_retry(failed):
    """The job has the number of the attempt that was lost, and no end."""
    Job.objects.update(state="queued", attempt=2, finished_at=None, seq=0)
    (lost,) = [row for row in read(Job.objects.get()).rows if row.note == "Interrupted"]
    assert (lost.left, lost.width, lost.is_open) == ("91.67%", "8.33%", False)


def test_failures_among_many_rows_can_be_shown_alone(failed, user_client, start):
    assert not read(failed).can_be_filtered
    for number in range(5):
        add_wait(failed, start, 62, 79, attempt=3, name=f"nap {number}")
    assert read(failed).can_be_filtered
    assert "Failures only" in section_of(user_client, failed)


def test_many_events_at_the_end_are_folded(user_client, admin_client, job, monkeypatch):
    """Some are not, nor are those before something else."""
    events = [Event(job.created_at + timedelta(seconds=45), "Called early")]

    def events_of(subject, reader):
        return events

    faulty.install(monkeypatch, "events_of", fault=events_of)
    events += [Event(job.finished_at, f"Called {number}") for number in range(5)]
    assert not read(job).more
    events.append(Event(None, "Will be called"))
    timeline = read(job)
    assert [row.name for row in timeline.more] == [f"Called {number}" for number in range(5)] + [
        "Will be called"
    ]
    assert "event Called early" in lines(timeline)
    text = section_of(user_client, job)
    assert "<summary>6 more events</summary>" in text and text.count("<li ") == 11
    text = admin_client.get(f"/admin/notifications/job/{job.pk}/change/").text
    assert "<summary>6 more events</summary>" in text and ">Will be called</th>" in text


def section_of(client, job):
    text = unescape(client.get(f"/notifications/jobs/{job.pk}/").text)
    return re.search(r"<section data-job-timeline.*?</section>", text, re.DOTALL)[0]


def test_the_page_of_the_job(user_client, job, start, extended):
    """Without the tracebacks of its attempts."""
    add_wait(job, start, 62, 79, attempt=3)
    text = section_of(user_client, job)
    assert text.count("<li ") == text.count("</li>") == 8
    assert re.findall(r'<rect(?: data-level="(\w+)")? x="([\d.]+)%"', text)[1] == ("error", "10.00")
    assert "Traceback" not in text
    assert "Failed · 30\xa0s</span>" in text


def test_the_page_of_an_active_job_has_a_place_for_it(user_client, user, job):
    Attempt.objects.all().delete()
    Job.objects.update(state="running", attempt=1, finished_at=None, seq=0)
    assert section_of(user_client, job) == "<section data-job-timeline>\n</section>"
    Job.objects.update(state="succeeded", finished_at=timezone.now(), seq=1)
    assert "data-job-timeline" not in user_client.get(f"/notifications/jobs/{job.pk}/").text


def read_part(client, job, tag=""):
    headers = {"If-None-Match": tag} if tag else {}
    return client.get(f"/notifications/jobs/{job.pk}/?part=timeline&background=1", headers=headers)


def test_the_part_that_an_open_page_reads_again(user_client, other_user, client_of, job, start, extended):
    """The section of the page alone, and nothing while nothing has begun or ended, nor grown by a tenth."""
    Job.objects.update(state="running", finished_at=None, seq=0, attempt=3)
    part = read_part(user_client, job)
    kinds = re.compile(r'<li data-kind="(\w+)"')
    assert part.text.strip().endswith("</section>") and "<html" not in part.text
    assert kinds.findall(part.text) == kinds.findall(section_of(user_client, job))
    assert "no-store" in part.headers["Cache-Control"]
    again = read_part(user_client, job, part.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    Job.objects.update(progress_current=1, version=9)
    assert read_part(user_client, job, part.headers["ETag"]).status_code == 304
    add_wait(job, start, 90, 91, attempt=3)
    waited = read_part(user_client, job, part.headers["ETag"])
    assert waited.status_code == 200 and "nap" in waited.text
    assert read_part(client_of(other_user), job).status_code == 404


def test_the_part_is_new_when_the_scale_is(user_client, user):
    """What goes on is drawn anew when the whole has become a tenth longer: here in half a second."""
    tasks.noop.using(owner=user).enqueue()
    begun = timezone.now() - timedelta(seconds=5)
    Job.objects.update(state="running", attempt=1, created_at=begun, started_at=begun)
    job = Job.objects.get()
    tag = read_part(user_client, job).headers["ETag"]
    wait_until(lambda: read_part(user_client, job, tag).status_code == 200, what="a new scale")


def test_the_part_of_a_question_that_the_page_shows(user_client, user):
    """It is not among the steps, as on the page."""
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    job = Job.objects.get()
    texts = [read_part(user_client, job).text, section_of(user_client, job)]
    assert [text.count("<li ") for text in texts] == [0, 0]


def test_staff_see_it_with_results_and_all_attempts(admin_client, job, start, extended):
    add_wait(job, start, 62, 79, attempt=3)
    text = admin_client.get(f"/admin/notifications/job/{job.pk}/change/").text
    table = text.partition('aria-labelledby="timeline-heading"')[2].partition("</table>")[0]
    names = re.findall(r'<tr data-kind="(\w+)"><th scope="row" data-label="Name">(.*?)</th>', table)
    assert [kind for kind, _ in names] == ["queue", *["attempt"] * 3, "step", "span", "event", "event"]
    assert ("span", "Written for None") in names and ">Due</td>" in table


def test_attempts_need_a_permission(client, make_user, job):
    """The last one is that of the job."""
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename="view_job"))
    client.force_login(staff)
    text = client.get(f"/admin/notifications/job/{job.pk}/change/").text
    assert "timeline-heading" not in text


def test_statements_do_not_grow_with_rows(user_client, job, start):
    """One for the attempts, one for the waits, and one a hook."""
    add_wait(job, start, 62, 79, attempt=3)
    section_of(user_client, job)  # the epoch is created
    counts = []
    for number in range(2):
        with CaptureQueriesContext(connection) as queries:
            section_of(user_client, job)
        counts.append(len(queries))
        for each in range(number * 10, 10 + number * 10):
            add_wait(job, start, 62, 79, attempt=3, name=f"nap {each}")
            Attempt.objects.create(job_id=job.pk, number=1, ended_at=start, outcome="failed")
    assert counts[0] == counts[1]
