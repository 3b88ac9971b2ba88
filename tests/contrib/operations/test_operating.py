"""From the overview: to the jobs of an alert, queue, error group or worker; and what staff change on it."""

import html
import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import OperationalError, connections
from django.utils import timezone

from notifications.api import batch
from notifications.contrib.operations.models import Alert, alert_kinds
from notifications.management import paused_queues
from notifications.models import Job, Queue, Worker
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.statements import refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

ADMIN = "/admin/notifications/"
OPERATIONS = "/admin/notifications_operations/"
PAGE = f"{OPERATIONS}overview/"


def add_worker(**fields):
    now = timezone.now()
    values = {"host": "web-1", "process": "boot ns 4711 99", "started_at": now, "concurrency": 8}
    return Worker.objects.create(**{**values, "lease_until": now + timedelta(seconds=60), **fields})


def add_alert(kind="wait", subject="default", **fields):
    now = timezone.now()
    return Alert.objects.create(kind=kind, subject=subject, opened_at=now, seen_at=now, **fields)


def messages_of(response):
    return [str(message) for message in response.context["messages"]]


def links(page, text):
    """Return the addresses of the links with this text."""
    found = re.findall(rf'<a href="([^"]*)"[^>]*>{re.escape(text)}</a>', page)
    return [html.unescape(address) for address in found]


def titles(client, address):
    response = client.get(address)
    assert response.status_code == 200, address
    return re.findall(r'class="field-title[^"]*"><a[^>]*>([^<]*)<', response.text)


def test_from_an_error_group_to_the_traceback(admin_client):
    """The first click shows the jobs of the group, the second one the page of a job with its traceback."""
    tasks.fail.using(title="One").enqueue()
    tasks.fail.using(title="Two").enqueue()
    tasks.fail_sync.using(title="Other").enqueue("no such customer")
    run_jobs()
    [jobs] = links(admin_client.get(PAGE).text, "2")
    assert titles(admin_client, jobs) == ["Two", "One"]
    listed = admin_client.get(jobs).text
    [traceback, _] = re.findall(r'href="([^"]*#attempts-heading)"', listed)
    assert "Traceback (most recent call last)" in admin_client.get(traceback).text


def test_errors_tasks_and_durations_in_the_list(admin_client):
    """The last line of the traceback, which names what the job could not do."""
    tasks.fail.using(title="Other").enqueue("no such customer")
    run_jobs()
    Job.objects.update(finished_at=timezone.now(), started_at=timezone.now() - timedelta(milliseconds=250))
    page = admin_client.get(f"{ADMIN}job/").text
    assert "ValueError: no such customer</a>" in page
    assert ">tasks.<wbr>fail</span>" in page
    assert re.search(r"field-took_cell[^>]*>(<[^>]*>)?2[45]\d ms<", page)
    assert "#attempts-heading" in page


def test_error_of_a_job_that_is_to_be_retried(admin_client):
    """It is in the list before the last attempt."""
    tasks.busy.using(title="Later").enqueue(3, 3600)
    run_jobs()
    assert Job.objects.get().state == "queued"
    assert ">VeryBusy" in admin_client.get(f"{ADMIN}job/").text


def test_error_in_the_list_follows_the_permissions(sign_in_staff, client):
    """Without that for tracebacks it is the name of the exception; without that for attempts there is none."""
    tasks.fail.using(title="Other").enqueue("no such customer")
    run_jobs()
    user = sign_in_staff("view_job", "view_attempt")
    page = client.get(f"{ADMIN}job/").text
    assert ">ValueError</a>" in page
    assert "no such customer" not in page
    user.user_permissions.set(Permission.objects.filter(codename="view_job"))
    assert "ValueError" not in client.get(f"{ADMIN}job/").text


def test_from_a_queue_to_its_jobs(admin_client):
    """By state, and all of them."""
    tasks.noop.using(title="Waits").enqueue()
    tasks.noop.using(title="Elsewhere", queue_name="other").enqueue()
    [address] = links(admin_client.get(PAGE).text, "other")
    assert titles(admin_client, address) == ["Elsewhere"]
    assert f"{ADMIN}job/?queue_name=other&state__exact=queued" in html.unescape(admin_client.get(PAGE).text)


@pytest.mark.parametrize(
    ("kind", "subject", "expected"),
    [
        ("wait", "other", f"{ADMIN}job/?state__exact=queued&queue_name=other&deliveries=shown"),
        ("stalled", "other", f"{ADMIN}job/?state__exact=running&queue_name=other&deliveries=shown"),
        ("no_worker", "", f"{ADMIN}job/?state__exact=queued&deliveries=shown"),
        ("question", "other", f"{ADMIN}job/?state__exact=waiting&queue_name=other&deliveries=shown"),
        ("lease", "", f"{ADMIN}job/?created=hour&deliveries=shown"),
        pytest.param(
            *("schedule", "nightly/1", "/admin/notifications_schedules/schedule/nightly_2F1/change/"),
            marks=pytest.mark.with_all_apps("the page is that of schedules"),
        ),
    ],
)
def test_from_an_alert_to_its_jobs(admin_client, kind, subject, expected):
    """One click leads to a list that opens: from the overview, the list of alerts, and the page of one."""
    alert = add_alert(kind, subject)
    [address] = links(admin_client.get(PAGE).text, str(alert))
    assert address == expected
    for path in ("", f"{alert.pk}/change/"):
        assert expected in html.unescape(admin_client.get(f"{OPERATIONS}alert/{path}").text)
    if kind != "schedule":
        assert admin_client.get(address).status_code == 200


def test_from_an_alert_to_what_failed_since(admin_client, settings):
    """From the first failure of the incident, so that just these are selected and retried."""
    settings.TIME_ZONE = "Europe/Berlin"
    since, path = "2026-05-01T01:54:00+00:00", "tests.jobs.tasks.noop"
    facts = {"since": since, "last": since, "failed": 2, "ended": 3, "users": 1}
    facts |= {"exception": "", "place": "", "others": 0}
    alert = add_alert("failures", path, facts=json.dumps(facts))
    for title, ended in (("Before", "01:53:59"), ("First", "01:54:00"), ("Later", "02:30:00")):
        id = tasks.noop.using(title=title).enqueue().id
        Job.objects.filter(pk=id).update(state="failed", finished_at=f"2026-05-01T{ended}Z")
    [address] = links(admin_client.get(PAGE).text, str(alert))
    assert sorted(titles(admin_client, address)) == ["First", "Later"]
    assert 'name="finished_from" value="2026-05-01T03:54"' in admin_client.get(address).text


def test_every_kind_of_alert_has_a_page(admin_client):
    """Also one that is added later."""
    for number, (kind, _) in enumerate(alert_kinds()):
        add_alert(kind, f"subject-{number}")
    page = admin_client.get(PAGE).text
    assert all(links(page, str(alert)) for alert in Alert.objects.all())


def test_jobs_of_a_worker_by_its_host(admin_client):
    """All of the workers of a host, those that one worker runs, and none of a host that is unknown."""
    here, there = add_worker(), add_worker(host="web-2")
    for worker, title in ((here, "Here"), (there, "There")):
        id = tasks.noop.using(title=title).enqueue().id
        Job.objects.filter(pk=id).update(worker=worker.pk, state="running", started_at=timezone.now())
    [address] = links(admin_client.get(PAGE).text, "web-2")
    assert titles(admin_client, address) == ["There"]
    [address] = re.findall(rf'href="([^"]*worker={here.pk}[^"]*)"', admin_client.get(PAGE).text)
    assert titles(admin_client, html.unescape(address)) == ["Here"]
    assert titles(admin_client, f"{ADMIN}job/?worker=web-3") == []


def test_jobs_of_a_batch(admin_client):
    """From the page of a batch to all of its jobs and to those that failed, and from each back."""
    with batch(title="Import"):
        tasks.noop.enqueue()
        tasks.fail.enqueue()
    run_jobs()
    parent = Job.objects.get(title="Import")
    page = admin_client.get(f"{ADMIN}job/{parent.pk}/change/").text
    [address] = links(page, "All jobs of this batch")
    assert sorted(titles(admin_client, address)) == ["Fail", "Noop"]
    [address] = links(page, "Failed jobs")
    assert titles(admin_client, address) == ["Fail"]
    child = Job.objects.get(batch=parent.pk, state="failed")
    [address] = links(admin_client.get(f"{ADMIN}job/{child.pk}/change/").text, "Import")
    assert address == f"{ADMIN}job/{parent.pk}/change/"
    assert admin_client.get(f"{ADMIN}job/?batch=x").status_code == 302


def test_without_the_permission_to_view_jobs_there_are_no_links(sign_in_staff, client):
    """Nor forms without the permissions to change."""
    sign_in_staff("view_overview")
    add_worker()
    add_alert()
    tasks.fail.enqueue()
    run_jobs()
    page = client.get(PAGE).text
    assert f"{ADMIN}job/" not in page
    assert 'method="post" action="/admin/notifications' not in page


def test_figures_of_each_task(admin_client):
    """By queue, those with the most failures first, each with links to its jobs."""
    for _ in range(3):
        tasks.noop.enqueue()
    tasks.fail.enqueue()
    tasks.fail.using(queue_name="other").enqueue()
    run_jobs()
    page = admin_client.get(f"{PAGE}tasks/").text
    rows = re.findall(r'<tr>\s*<th scope="row">.*?</tr>', page, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(?:<a[^>]*>)?([^<]*)", row)[:3] for row in rows]
    assert cells == [["default", "1", "1"], ["other", "1", "1"], ["default", "0", "3"]]
    assert "100 %" in rows[0] and "fail" in rows[0] and "noop" in rows[2]
    [failed, _] = links(page, "1")
    assert titles(admin_client, failed) == ["Fail", "Fail"]
    for order, first in (("ended", "noop"), ("busy", "tasks"), ("slow", "tasks"), ("none", "fail")):
        page = admin_client.get(f"{PAGE}tasks/?order={order}&period=day").text
        assert first in re.search(r'<th scope="row">.*?</th>', page, re.DOTALL)[0]


def test_tasks_without_a_job_or_database(admin_client):
    """The page says so."""
    assert "No job has ended in the last hour." in admin_client.get(f"{PAGE}tasks/").text

    with refused("notifications_operations_jobstatistics"):
        assert admin_client.get(f"{PAGE}tasks/").status_code == 503


def test_pause_a_queue_with_atomic_requests(admin_client, monkeypatch):
    """Its row is written after the request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    admin_client.post(f"{PAGE}queue/", {"name": "default", "action": "pause"}, follow=True)
    assert list(paused_queues()) == ["default"]
    assert LogEntry.objects.get().change_message == "Paused."


def test_pause_and_resume_a_queue(admin_client):
    """No job of it is started meanwhile. A paused queue without jobs is listed, so that it can be resumed."""
    response = admin_client.post(f"{PAGE}queue/", {"name": "default", "action": "pause"}, follow=True)
    assert messages_of(response) == ["The queue default is paused. Jobs that run continue."]
    id = tasks.noop.enqueue().id
    run_jobs()
    assert Job.objects.get(pk=id).state == "queued"
    Job.objects.all().delete()
    assert 'value="resume"' in admin_client.get(PAGE).text
    response = admin_client.post(f"{PAGE}queue/", {"name": "default", "action": "resume"}, follow=True)
    assert messages_of(response) == ["The queue default is resumed."]
    assert list(paused_queues()) == []
    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["Paused.", "Resumed."]


@pytest.mark.parametrize(
    "form", [{}, {"name": "default"}, {"name": "\0", "action": "pause"}, {"action": "pause"}]
)
def test_an_unknown_change_of_a_queue(admin_client, form):
    """Says so and changes nothing."""
    response = admin_client.post(f"{PAGE}queue/", form, follow=True)
    assert len(messages_of(response)) == 1
    assert not Queue.objects.exists()


def test_quiet_and_resume_a_worker(admin_client):
    """The request is stored; the page shows it and offers to withdraw it."""
    worker = add_worker()
    response = admin_client.post(f"{PAGE}worker/", {"id": worker.pk, "action": "quiet"}, follow=True)
    assert messages_of(response) == ["The worker on web-1 starts no more jobs within a few seconds."]
    worker.refresh_from_db()
    assert worker.request == "quiet"
    assert '<span class="badge warn">Quiet</span>' in response.text
    admin_client.post(f"{PAGE}worker/", {"id": worker.pk, "action": "resume"})
    worker.refresh_from_db()
    assert worker.request == ""


def test_a_stop_of_a_worker_asks_first(admin_client):
    """And cannot be withdrawn."""
    worker = add_worker()
    response = admin_client.post(f"{PAGE}worker/", {"id": worker.pk, "action": "stop"})
    assert "Stop the worker on web-1?" in response.text
    worker.refresh_from_db()
    assert worker.request == ""
    form = {"id": worker.pk, "action": "stop", "confirm": "1"}
    response = admin_client.post(f"{PAGE}worker/", form, follow=True)
    assert messages_of(response) == ["The worker on web-1 is stopping."]
    assert 'value="resume"' not in response.text
    admin_client.post(f"{PAGE}worker/", {"id": worker.pk, "action": "resume"})
    worker.refresh_from_db()
    assert worker.request == "stop"


@pytest.mark.parametrize(
    "fields",
    [{"queues": "engine:celery"}, {"concurrency": 0}, {"lease_until": timezone.now() - timedelta(days=1)}],
    ids=["of an engine", "claims none", "lost"],
)
def test_workers_that_take_no_requests(admin_client, fields):
    """They have no buttons, and a request from elsewhere is refused."""
    worker = add_worker(**fields)
    assert 'value="quiet"' not in admin_client.get(PAGE).text
    form = {"id": worker.pk, "action": "stop", "confirm": "1"}
    response = admin_client.post(f"{PAGE}worker/", form, follow=True)
    assert messages_of(response) == ["The worker has ended already, or takes no requests."]
    worker.refresh_from_db()
    assert worker.request == ""


@pytest.mark.parametrize("id", ["", "no-uuid", "01a1f8f2-9c11-7d02-b1a4-0a4f6c1d2e3f"])
def test_a_worker_that_has_ended(admin_client, id):
    """Its buttons do nothing."""
    response = admin_client.post(f"{PAGE}worker/", {"id": id, "action": "quiet"}, follow=True)
    assert messages_of(response) == ["The worker has ended already, or takes no requests."]


def test_acknowledge_an_alert(admin_client):
    """Once, with the name of the user, for all who look at the page."""
    alert = add_alert()
    response = admin_client.post(f"{PAGE}alert/", {"id": alert.pk}, follow=True)
    assert messages_of(response) == ["The alert is acknowledged."]
    assert "acknowledged by admin, " in response.text
    assert ">Acknowledge<" not in response.text
    response = admin_client.post(f"{PAGE}alert/", {"id": alert.pk}, follow=True)
    assert messages_of(response) == ["The alert is over, or acknowledged already."]
    entry = LogEntry.objects.get()
    assert (entry.change_message, entry.object_id) == ("Acknowledged.", str(alert.pk))


@pytest.mark.parametrize("id", ["", "x", "9" * 30, "²"])
def test_an_unknown_alert(admin_client, id):
    response = admin_client.post(f"{PAGE}alert/", {"id": id}, follow=True)
    assert messages_of(response) == ["The alert is over, or acknowledged already."]


def test_acknowledge_alerts_of_the_list(admin_client):
    """Those that are open; the others stay as they are."""
    selected = [add_alert().pk, add_alert("lease", "", closed_at=timezone.now()).pk]
    form = {"action": "acknowledge_alerts", "_selected_action": selected}
    response = admin_client.post(f"{OPERATIONS}alert/", form, follow=True)
    assert messages_of(response) == ["1 alert was acknowledged."]
    response = admin_client.post(f"{OPERATIONS}alert/", form, follow=True)
    assert len(messages_of(response)) == 1
    assert Alert.objects.exclude(acknowledged_by="").count() == 1


@pytest.mark.parametrize(
    ("kind", "change"), [("queue", "pause_queue"), ("worker", "request_of_worker"), ("alert", "acknowledge")]
)
def test_a_database_that_is_away(admin_client, monkeypatch, kind, change):
    """A page says so, and going back shows the form again."""

    def fail(*args, **kwargs):
        raise OperationalError("away")

    monkeypatch.setattr(f"{OPERATING}.{change}", fail)
    form = {"name": "default", "action": "pause" if kind == "queue" else "quiet", "id": "1"}
    if kind == "worker":
        form["id"] = add_worker().pk
    response = admin_client.post(f"{PAGE}{kind}/", form)
    assert response.status_code == 503
    assert "The database is not available. Go back and try again" in response.text


OPERATING = "notifications.contrib.operations.admin.overview.operating"


def test_quiet_and_resume_all_workers(admin_client):
    """A page asks first, and those that take no request, or have it already, are left out of the log."""
    workers = [add_worker(host=f"web-{number}") for number in range(3)]
    ended = add_worker(host="gone", lease_until=timezone.now() - timedelta(seconds=60))
    engine = add_worker(host="celery", queues="engine:default")
    stopping = add_worker(host="old", request="stop")
    Worker.objects.filter(pk=workers[0].pk).update(request="quiet")
    form = {"id": "all", "action": "quiet"}
    asked = admin_client.post(f"{PAGE}worker/", form)
    assert "Quiet all workers?" in asked.text
    assert Worker.objects.filter(request="quiet").count() == 1
    response = admin_client.post(f"{PAGE}worker/", {**form, "confirm": "1"}, follow=True)
    assert messages_of(response) == ["2 workers start no more jobs within a few seconds."]
    logged = LogEntry.objects.values_list("object_id", "change_message")
    assert sorted(logged) == sorted((str(worker.pk), "Quieted.") for worker in workers[1:])
    assert dict(Worker.objects.values_list("pk", "request")) == {
        **{worker.pk: "quiet" for worker in workers},
        ended.pk: "",
        engine.pk: "",
        stopping.pk: "stop",
    }
    assert "Resume all" in response.text and "Quiet all" not in response.text
    response = admin_client.post(f"{PAGE}worker/", {"id": "all", "action": "resume"}, follow=True)
    assert messages_of(response) == ["3 workers start jobs again within a few seconds."]
    assert "Quiet all" in response.text and "Resume all" not in response.text


def test_stop_all_workers(admin_client):
    """It cannot be withdrawn; then there is nothing left to request of all."""
    add_worker(), add_worker(host="web-2")
    form = {"id": "all", "action": "stop"}
    assert "Stop all workers?" in admin_client.post(f"{PAGE}worker/", form).text
    assert set(Worker.objects.values_list("request", flat=True)) == {""}
    response = admin_client.post(f"{PAGE}worker/", {**form, "confirm": "1"}, follow=True)
    assert messages_of(response) == ["2 workers are stopping."]
    assert "Stop all" not in response.text
    for action in ("stop", "quiet", "resume"):
        response = admin_client.post(
            f"{PAGE}worker/", {"id": "all", "action": action, "confirm": "1"}, follow=True
        )
        assert messages_of(response) == [
            "No worker was changed. All have ended, or have this request already."
        ]
    assert set(Worker.objects.values_list("request", flat=True)) == {"stop"}


def test_one_worker_has_no_buttons_for_all(admin_client):
    """Its own do the same."""
    add_worker()
    page = admin_client.get(PAGE).text
    assert 'value="stop"' in page and "Stop all" not in page
