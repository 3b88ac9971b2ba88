"""All jobs that a filter of the admin finds are changed by a job, after staff have confirmed it."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.messages.storage.fallback import FallbackStorage
from django.test.utils import isolate_apps
from django.utils import timezone

from notifications.admin import JobAdmin
from notifications.contrib.operations.admin import WithFilters
from notifications.jobs import cancel
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.lost_rights import RIGHTS, lose_right

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]

LIST = "/admin/notifications/job/"
TASK = "notifications.contrib.operations.admin.bulk_changes.change_matching_jobs"


@isolate_apps("notifications")
def test_the_admin_of_a_proxy_of_jobs(rf, admin_user):
    """It asks as well, and has the same filters. An action of a project is refused."""

    class MailJob(Job):
        class Meta:
            proxy = True
            app_label = "notifications"

    request = rf.get(LIST)
    request.user = admin_user
    request.session = {}
    request._messages = FallbackStorage(request)
    proxy = JobAdmin(MailJob, admin.site)
    filters = proxy.get_list_filter(request)
    assert filters == JobAdmin(Job, admin.site).get_list_filter(request)
    assert set(filters) > set(JobAdmin.list_filter)
    assert JobAdmin.change_all is WithFilters.change_all
    assert proxy.change_all(request, "export_jobs") is None
    assert "No job was changed." in str(list(request._messages)[-1])


class ProjectStateFilter(admin.SimpleListFilter):
    """A filter of a project with the parameter of one of the list."""

    title, parameter_name = "state", "state__exact"

    def lookups(self, request, model_admin):
        return Job.State.choices

    def queryset(self, request, queryset):
        return queryset


@pytest.fixture
def staff(sign_in_staff):
    return sign_in_staff("view_job", "change_job")


@pytest.fixture
def change_all(client):
    """change_all(action, query) sends an action for all jobs of the filter; ``confirm=True`` answers the question."""

    def send(action, query="", *, confirm=False):
        form = {"action": action, "_selected_action": "0" * 32, "select_across": "1"}
        question = client.post(LIST + query, form, follow=True)
        return answer(client, question, query) if confirm and "counted" in fields_of(question) else question

    return send


def fields_of(question):
    return dict(
        re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', question.text.partition("novalidate")[2])
    )


def answer(client, question, query="", **fields):
    return client.post(LIST + query, fields_of(question) | fields, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


def bulk_job():
    return Job.objects.get(task_path=TASK)


def states(ids):
    return set(Job.objects.filter(pk__in=ids).values_list("state", flat=True))


def test_retry_asks_and_is_done_by_a_job(client, staff, user, change_all):
    """It says how many there are, changes nothing before the answer, and the bell rings with what was done."""
    failed = [tasks.fail.using(owner=user).enqueue().id for _ in range(3)]
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    query = "?state__exact=failed"
    question = change_all("retry_jobs", query)
    assert "<h1>Retry 3 jobs?</h1>" in question.text and states(failed) == {"failed"}
    assert re.search(r'<input type="hidden" name="confirmed" value="1">', question.text)
    page = change_all("retry_jobs", query, confirm=True)
    assert page.redirect_chain[0][0] == f"{LIST}{bulk_job().pk}/change/"
    assert bulk_job().user_id == staff.pk and bulk_job().title == "Retry 3 jobs"
    run_jobs()
    assert Job.objects.filter(pk__in=failed, attempt=2, user=user).count() == 3
    assert json.loads(bulk_job().result) == {
        "changed": 3,
        "skipped": 0,
        "text": "3 queued again, 0 skipped.",
    }
    [note] = Notification.objects.filter(user=staff)
    assert (note.title, note.body) == ("Retry 3 jobs", "3 queued again, 0 skipped.")
    logged = {(entry.object_id, entry.change_message) for entry in LogEntry.objects.filter(user=staff)}
    assert logged == {(str(id), "Queued again.") for id in failed} | {
        (str(bulk_job().pk), "3 queued again, 0 skipped.")
    }


@pytest.mark.parametrize("action", ["retry_jobs", "cancel_jobs", "run_jobs_now", "reschedule_jobs"])
def test_what_was_counted_is_what_is_changed(client, staff, change_all, action):
    """Jobs that meet the conditions since the question are named, and stay as they are."""
    later = timezone.now() + timedelta(days=1)

    def add(title):
        id = tasks.noop.using(run_after=later, title=title).enqueue().id
        if action == "retry_jobs":
            Job.objects.filter(pk=id).update(state="failed", finished_at=timezone.now())

    add("Old"), add("Old")
    question = change_all(action)
    assert "2 jobs" in question.text
    add("New")
    response = answer(client, question, run_at="2100-01-01T08:30")
    assert "1 more since the question. It stays as it is." in said(response)
    new = Job.objects.filter(title="New").values("state", "due_at", "run_after").get()
    run_jobs()
    assert Job.objects.filter(title="New").values("state", "due_at", "run_after").get() == new
    assert json.loads(bulk_job().result)["changed"] == 2


def test_a_period_of_the_question_is_that_of_the_answer(client, staff, change_all, jobs_clock):
    """ "Past hour" has other jobs when the answer comes."""
    id = tasks.noop.enqueue().id
    Job.objects.filter(pk=id).update(state="failed", finished_at=timezone.now() - timedelta(minutes=59))
    question = change_all("retry_jobs", "?finished=hour")
    jobs_clock.advance(timedelta(minutes=5))
    answer(client, question, "?finished=hour")
    assert bulk_job().title == "Retry 1 job"


def test_a_question_of_another_user_or_change_is_refused(client, staff, admin_user, change_all):
    tasks.noop.enqueue()
    question = change_all("cancel_jobs")
    assert said(answer(client, question, action="reschedule_jobs"))[0].startswith(
        "No job was changed, because"
    )
    client.force_login(admin_user)
    assert said(answer(client, question))[0].startswith("No job was changed, because")
    assert Job.objects.get().state == "queued"


def test_cancel_takes_all_active_jobs_but_its_own(staff, user, change_all):
    ids = [tasks.noop.using(owner=user).enqueue().id for _ in range(3)]
    change_all("cancel_jobs", confirm=True)
    run_jobs()
    assert states(ids) == {"cancelled"}
    assert bulk_job().state == "succeeded"
    assert (bulk_job().progress_current, bulk_job().progress_total) == (3, 3)


def test_run_now(staff, user, change_all):
    later = timezone.now() + timedelta(days=1)
    delayed = [tasks.noop.using(owner=user, run_after=later).enqueue().id for _ in range(2)]
    tasks.noop.using(owner=user).enqueue()
    assert "<h1>Run 2 jobs now?</h1>" in change_all("run_jobs_now").text
    change_all("run_jobs_now", confirm=True)
    run_jobs()
    run_jobs()
    assert states(delayed) == {"succeeded"}


def test_reschedule(client, staff, user, change_all):
    """The page asks for the time; a wrong one is shown again with the number of jobs."""
    queued = [tasks.noop.using(owner=user).enqueue().id for _ in range(2)]
    question = change_all("reschedule_jobs")
    assert "<h1>Reschedule 2 jobs</h1>" in question.text
    page = answer(client, question, run_at="2020-01-01T00:00")
    assert "This time is over." in page.text and 'name="select_across" value="1"' in page.text
    answer(client, page, run_at="2100-01-01T08:30")
    assert bulk_job().title == "Reschedule 2 jobs"
    run_jobs()
    times = set(Job.objects.filter(pk__in=queued).values_list("state", "run_after"))
    assert times == {("queued", datetime(2100, 1, 1, 8, 30, tzinfo=UTC))}
    assert json.loads(bulk_job().result)["text"] == "2 rescheduled, 0 skipped."
    logged = {(entry.object_id, entry.change_message) for entry in LogEntry.objects.filter(user=staff)}
    assert (str(queued[0]), "Rescheduled to 2100-01-01 08:30 UTC.") in logged


def test_only_jobs_of_the_filter_are_changed(staff, user, other_user, change_all):
    """That of a user and a search, in chunks of one job."""
    mine, others = (
        [tasks.noop.using(owner=owner, title=title).enqueue().id for title in ("red", "blue")]
        for owner in (user, other_user)
    )
    cancel(Job.objects.values_list("pk", flat=True), by=None)
    change_all("retry_jobs", f"?user={user.username}&q=red", confirm=True)
    run_jobs()
    assert states(mine[:1]) == {"succeeded"}
    assert states([*mine[1:], *others]) == {"cancelled"}


def test_owner_with_too_many_jobs_is_skipped(staff, user, other_user, change_all, settings):
    """The jobs of other owners are retried nevertheless."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
    for owner in (user, other_user):
        for _ in range(2):
            tasks.noop.using(owner=owner).enqueue()
    cancel(Job.objects.values_list("pk", flat=True), by=None)
    waiting = timezone.now() + timedelta(days=1)
    tasks.noop.using(owner=user, run_after=waiting).enqueue()
    change_all("retry_jobs", confirm=True)
    run_jobs()
    assert json.loads(bulk_job().result)["text"] == "3 queued again, 1 skipped."


def test_many_are_counted_up_to_a_limit(staff, user, change_all, set_bounds):
    set_bounds(counted=2, rows=1)
    for _ in range(3):
        tasks.noop.using(owner=user).enqueue()
    assert "<h1>Cancel at least 2 jobs?</h1>" in change_all("cancel_jobs").text
    change_all("cancel_jobs", confirm=True)
    assert bulk_job().title == "Cancel many jobs"
    run_jobs()
    assert json.loads(bulk_job().result)["changed"] == 3


def test_many_are_counted_exactly(staff, user, change_all, set_bounds):
    """However few rows a page of the list may read."""
    set_bounds(rows=1, searched=2)
    ids = [tasks.noop.using(owner=user).enqueue().id for _ in range(5)]
    Job.objects.filter(pk__in=ids).update(state="failed", finished_at=timezone.now())
    assert "<h1>Retry 5 jobs?</h1>" in change_all("retry_jobs").text
    change_all("retry_jobs", confirm=True)
    run_jobs()
    assert (bulk_job().progress_current, bulk_job().progress_total) == (5, 5)


def test_times_of_the_end_hold_for_the_change_too(staff, change_all):
    """What ended before, or after, is not retried; and no active job ended in any time."""
    now = timezone.now()
    ids = [tasks.noop.enqueue().id for _ in range(4)]
    for id, minutes in zip(ids, (90, 50, 10), strict=False):
        Job.objects.filter(pk=id).update(state="failed", finished_at=now - timedelta(minutes=minutes))
    times = {"from": now - timedelta(hours=1), "until": now - timedelta(minutes=30)}
    query = "?" + "&".join(f"finished_{end}={time:%Y-%m-%dT%H:%M}Z" for end, time in times.items())
    assert "<h1>Retry 2 jobs?</h1>" in change_all("retry_jobs", query.partition("&")[0]).text
    assert "<h1>Retry 1 job?</h1>" in change_all("retry_jobs", query).text
    assert said(change_all("cancel_jobs", query.replace("from", "until"))) == [
        "No job was cancelled, because none of them is queued or running."
    ]


def test_nothing_is_begun_where_no_job_matches(staff, change_all):
    tasks.noop.enqueue()
    assert said(change_all("retry_jobs")) == [
        "No job was queued again, because none of them has failed or was cancelled."
    ]
    assert Job.objects.count() == 1


def test_filter_that_a_job_cannot_carry_is_refused(staff, change_all, monkeypatch):
    """A project's admin may have filters of its own, of which the job that changes them all knows nothing."""
    monkeypatch.setattr(JobAdmin, "list_filter", (*JobAdmin.list_filter, "priority"))
    tasks.noop.enqueue()
    [text] = said(change_all("cancel_jobs", "?priority=0", confirm=True))
    assert text.startswith("All jobs that match cannot be changed with the filter “priority”.")
    assert Job.objects.count() == 1


def test_filter_of_a_project_in_place_of_one_of_the_list_is_refused(staff, change_all, monkeypatch):
    """It has taken the parameter, and the filter of the list that would be a condition of the job has no value."""
    tasks.noop.enqueue()
    for own in ("state", ProjectStateFilter):
        monkeypatch.setattr(JobAdmin, "list_filter", (own,))
        [text] = said(change_all("cancel_jobs", "?state__exact=failed", confirm=True))
        assert text.startswith("All jobs that match cannot be changed with the filter “state__exact”.")
    assert Job.objects.count() == 1


def test_list_of_some_jobs_only_is_refused(staff, change_all, monkeypatch):
    """A project's admin may show the jobs of one customer, whose staff must not change those of others."""
    tasks.noop.enqueue()

    class SomeJobs(JobAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).filter(queue_name="default")

    monkeypatch.setattr(JobAdmin, "shows_all_jobs", SomeJobs.shows_all_jobs)
    assert SomeJobs(Job, None).shows_all_jobs() is False
    monkeypatch.setattr(JobAdmin, "shows_all_jobs", lambda self: False)
    [text] = said(change_all("cancel_jobs", confirm=True))
    assert text.startswith("All jobs that match cannot be changed, because this list shows some jobs only.")
    assert Job.objects.get().state == "queued"


def test_withdrawn_permission_stops_it(staff, user, change_all):
    """Between the confirmation and the start of the job."""
    id = tasks.noop.using(owner=user).enqueue().id
    change_all("cancel_jobs", confirm=True)
    staff.user_permissions.clear()
    Job.objects.filter(pk=id).update(
        run_after=timezone.now() + timedelta(days=1), due_at=timezone.now() + timedelta(days=1)
    )
    run_jobs()
    assert Job.objects.get(pk=id).state == "queued" and bulk_job().state == "failed"


@pytest.mark.parametrize("right", RIGHTS)
def test_right_that_is_lost_stops_it_before_the_next_chunk(
    staff, user, change_all, monkeypatch, set_bounds, right
):
    set_bounds(rows=2)
    later = timezone.now() + timedelta(days=1)
    ids = [tasks.noop.using(owner=user, run_after=later).enqueue().id for _ in range(5)]
    change_all("cancel_jobs", confirm=True)

    def cancel_and_lose_right(ids, by):
        lose_right(staff, right)
        return cancel(ids, by=by)

    monkeypatch.setattr(manual, "cancel", cancel_and_lose_right)
    run_jobs()
    assert Job.objects.filter(pk__in=ids, state="cancelled").count() == 2
    assert bulk_job().state == "failed"
    assert json.loads(bulk_job().error)["detail"] == "The user who started this no longer has the permission."


def test_without_the_permission_nothing_is_asked(client, sign_in_staff, user, change_all):
    sign_in_staff("view_job")
    tasks.noop.using(owner=user).enqueue()
    change_all("cancel_jobs", confirm=True)
    assert Job.objects.get().state == "queued"
