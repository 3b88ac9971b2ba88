"""Deleting reports: by retention and by their owner."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from asyncsite import tasks
from asyncsite.models import Call, Report
from asyncsite.pruning import prune_reports
from asyncsite.tasks import enqueue_report
from notifications.models import Job
from notifications.testing import run_jobs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


@pytest.fixture
def make_old_report(make_report):
    """Return a function that creates a report of this age in days."""

    def make(days, **fields):
        return make_report(ok=[1, 2], created_at=timezone.now() - timedelta(days=days), **fields)

    return make


def test_a_schedule_deletes_them_each_night(make_old_report, settings):
    """The site's own settings declare it."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": settings.SITE_SCHEDULES}
    make_old_report(91)
    call_command("notifications", "schedules", "run", "delete-old-reports")
    run_jobs(raise_errors=True)
    assert not Report.objects.exists() and Job.objects.get().result == "1"


def test_only_reports_past_their_retention_are_deleted(make_old_report, settings):
    """Their calls are deleted too. The oldest are deleted first, up to the limit."""
    settings.REPORT_RETENTION = timedelta(days=90)
    kept, youngest = make_old_report(89), make_old_report(91)
    make_old_report(93), make_old_report(92)
    assert prune_reports(limit=2) == 2
    assert set(Report.objects.all()) == {kept, youngest}
    assert [prune_reports(limit=2), prune_reports()] == [1, 0]
    assert Report.objects.get() == kept and Call.objects.count() == 2


def test_the_job_of_a_report_deletes_old_ones(make_old_report, user, other_user, upstream, monkeypatch):
    monkeypatch.setattr(tasks, "MAX_PRUNED_REPORTS_PER_JOB", 2)
    for _ in range(3):
        make_old_report(1000, owner=other_user)
    enqueue_report(user, [upstream.url("/ok")])
    run_jobs()
    assert Report.objects.filter(owner=other_user).count() == 1
    assert Report.objects.get(owner=user).calls.get().outcome == "ok"


def test_an_old_report_with_an_active_job_stays(make_old_report, user, upstream):
    enqueue_report(user, [upstream.url("/ok")])
    Report.objects.update(created_at=timezone.now() - timedelta(days=1000))
    assert prune_reports() == 0
    run_jobs()
    assert prune_reports() == 1


def test_active_reports_do_not_count_toward_the_limit(make_old_report, user, upstream):
    """If the oldest reports are active, younger ones are deleted all the same."""
    enqueue_report(user, [upstream.url("/ok")])
    Report.objects.update(created_at=timezone.now() - timedelta(days=1000))
    make_old_report(100)
    assert prune_reports(limit=1) == 1
    assert Report.objects.get().owner == user


def test_the_command_deletes_reports_too(make_old_report, capsys):
    """--days applies to them, and --dry-run counts them."""
    make_old_report(91), make_old_report(10)
    call_command("notifications", "prune", dry_run=True)
    assert capsys.readouterr().out.endswith("1 reports would be deleted.\n") and Report.objects.count() == 2
    call_command("notifications", "prune")
    assert capsys.readouterr().out.endswith("1 report deleted.\n")
    call_command("notifications", "prune", days=9)
    assert not Report.objects.exists()


def test_a_database_error_while_reports_are_deleted(make_old_report, monkeypatch):
    """A message instead of a traceback."""

    def fail(kept):
        raise OperationalError("database is locked")

    monkeypatch.setattr("asyncsite.management.commands.notifications.prune_reports", fail)
    with pytest.raises(CommandError, match=r"Not all rows were deleted: database is locked\. Try again\."):
        call_command("notifications", "prune")


def test_an_owner_deletes_a_report(person, make_report):
    """With its calls, from its page."""
    report, another = make_report(ok=[1]), make_report(ok=[2])
    assert "A report is deleted after 90 days." in person.get("/reports/").content.decode()
    html = person.get(report.get_absolute_url()).content.decode()
    assert (
        f'action="/reports/{report.pk}/delete/"' in html and "Delete this report and 1 recorded call?" in html
    )
    response = person.post(f"/reports/{report.pk}/delete/")
    assert (response.status_code, response.headers["location"]) == (303, "/reports/")
    assert Report.objects.get() == another and Call.objects.count() == 1
    assert person.post(f"/reports/{report.pk}/delete/").status_code == 404


def test_a_program_deletes_a_report(program, make_report):
    report = make_report(ok=[1])
    assert program.post(f"/reports/{report.pk}/delete/").status_code == 204
    assert not Report.objects.exists()


def test_only_its_owner_deletes_a_report(person, program, make_report, other_user):
    report = make_report(owner=other_user)
    assert person.post(f"/reports/{report.pk}/delete/").status_code == 404
    assert person.get(f"/reports/{report.pk}/delete/").status_code == 405
    assert Report.objects.get() == report


def test_a_running_report_is_not_deleted(person, user, upstream):
    """Its job must be cancelled first, and fails if it is retried afterwards."""
    enqueue_report(user, [upstream.url("/ok")])
    report = Report.objects.get()
    response = person.post(f"/reports/{report.pk}/delete/")
    assert response.status_code == 409
    assert "The report is still running. Cancel it, then delete it." in response.content.decode()
    person.post(f"/notifications/api/jobs/{report.job_id}/cancel/")
    assert person.post(f"/reports/{report.pk}/delete/").status_code == 303
    person.post(f"/notifications/api/jobs/{report.job_id}/retry/")
    run_jobs()
    job = Job.objects.get()
    assert job.state == "failed" and "The report was deleted." in job.error
