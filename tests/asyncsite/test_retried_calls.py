"""Failed calls of a finished report that are tried again: one of them, or all."""

from html import unescape

import pytest
from django.db import transaction
from django.urls import reverse

from asyncsite.models import Call, Report
from asyncsite.tasks import NothingToTryAgain, enqueue_failed_calls, enqueue_report
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.asyncsite.conftest import set_job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def finished(user, upstream):
    """Return a report whose second and third URL failed, and pass when they are called again; the fourth never does."""
    paths = ["/ok", "/sequence?statuses=404", "/sequence?statuses=410", "/status/404"]
    enqueue_report(user, [upstream.url(path) for path in paths], title="Mine")
    run_jobs()
    report = Report.objects.get()
    assert outcomes(report) == ["ok", "failed", "failed", "failed"]
    return report


def outcomes(report):
    return list(report.calls.order_by("position").values_list("outcome", flat=True))


def press(client, report, **fields):
    response = client.post(reverse("report-retry", args=[report.pk]), fields)
    assert (response.status_code, response["Location"]) == (303, report.get_absolute_url())
    run_jobs()
    report.refresh_from_db()


def html(client, report):
    return unescape(client.get(report.get_absolute_url()).content.decode())


def test_all(person, finished):
    """Only what had failed is called, and the report is told of again."""
    assert "Try the 3 failed again" in html(person, finished)
    before = finished.calls.get(position=1).pk
    press(person, finished)
    assert outcomes(finished) == ["ok", "ok", "ok", "failed"]
    assert finished.calls.get(position=1).pk == before
    assert Job.objects.get(pk=finished.job_id).attempt == 1 and Job.objects.count() == 2
    bodies = list(Notification.objects.order_by("raised").values_list("body", flat=True))
    assert [body.rpartition(". ")[2] for body in bodies] == ["1 of 4 passed", "3 of 4 passed"]
    assert "Try the failed one again" in html(person, finished)


def test_one(person, finished):
    assert f"Try again: {finished.urls[2]}" in html(person, finished)
    press(person, finished, position="3")
    assert outcomes(finished) == ["ok", "failed", "ok", "failed"]


def test_a_second_press_changes_nothing(person, user, finished):
    """Also one that was sent while the first one had not committed: it has the report as it was."""
    stale = Report.objects.get()
    press(person, finished)
    stored, jobs = list(Call.objects.values()), Job.objects.count()
    set_job(finished, "running", attempt=1)
    press(person, finished)
    assert list(Call.objects.values()) == stored
    assert Job.objects.count() == jobs + 1  # that of set_job()
    with pytest.raises(NothingToTryAgain), transaction.atomic():
        enqueue_failed_calls(stale)
    assert list(Call.objects.values()) == stored and Job.objects.count() == jobs + 1


@pytest.mark.parametrize("position", ["1", "7", "x", "-1", "9" * 30, "2\0"])
def test_positions_without_a_failure(person, finished, position):
    """That of a call that passed, that of none, and no number."""
    stored = list(Call.objects.values())
    press(person, finished, position=position)
    assert list(Call.objects.values()) == stored and Job.objects.count() == 1


def test_reports_of_others(person, other_user, make_report):
    theirs = make_report(owner=other_user, failed=1)
    assert person.post(reverse("report-retry", args=[theirs.pk])).status_code == 404


def test_too_many(person, finished, settings):
    """The limit of requests holds, and nothing is lost by it."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 2}
    press(person, finished, position="2")
    response = person.post(reverse("report-retry", args=[finished.pk]))
    assert response.status_code == 429
    assert outcomes(finished) == ["ok", "ok", "failed", "failed"]


def test_nothing_is_offered_that_cannot_be_tried(person, make_report):
    """What the guard has refused is refused again; a report with missing calls offers these."""
    refused = make_report(ok=[1], refused=1)
    assert 'id="retry"' not in html(person, refused)
    unfinished = make_report(failed=1, missing=1)
    set_job(unfinished, "failed", attempt=1)
    page = html(person, unfinished)
    assert "Check remaining 1" in page and 'id="retry"' not in page and "Try again:" not in page
