"""A report becomes public when its owner says so, and private again at once."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from asyncsite.models import Report
from notifications.contrib.questions.testing import answer_question
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs, run_until_idle
from tests.asyncsite.conftest import set_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


@pytest.fixture
def report(make_report):
    report = make_report(ok=[1, 2], failed=1)
    set_job(report, "succeeded", attempt=1)
    return report


def ask(person, report):
    response = person.post(reverse("report-publish", args=[report.pk]))
    assert (response.status_code, response["Location"]) == (303, report.get_absolute_url())
    run_jobs()
    report.refresh_from_db()
    return report


def html(client, report):
    return client.get(report.get_absolute_url()).content.decode()


def test_yes(person, user, report):
    assert "Publish…" in html(person, report)
    ask(person, report)
    assert "Publish this report?" in html(person, report) and "Publish…" not in html(person, report)
    assert Wait.objects.get().title == f"Publish “{report.title}”?"
    [action] = json.loads(Notification.objects.get(title=Wait.objects.get().title).data)["actions"][2:]
    assert action == {"label": "View details", "url": report.get_absolute_url()}
    answer_question("yes", by=user)
    run_jobs()
    report.refresh_from_db()
    link = reverse("public-report", args=[report.public_token])
    assert Notification.objects.get(title=f"{report.title} is public").url == link
    assert link in html(person, report)
    page = Client().get(link)
    shown = page.content.decode()
    assert (
        report.title in shown
        and "2 of 3 passed" in shown
        and ">1 failed<" in shown
        and page["Referrer-Policy"] == "no-referrer"
    )
    assert "api.example.com" not in shown and user.get_username() not in shown


def test_no(person, user, report):
    ask(person, report)
    answer_question("no", by=user)
    run_jobs()
    report.refresh_from_db()
    assert report.public_token is None
    assert "Publish…" in html(person, report)
    assert not Notification.objects.filter(title__contains="is public").exists()


def test_no_answer_keeps_it_private(person, report):
    ask(person, report)
    run_until_idle()
    report.refresh_from_db()
    assert report.public_token is None and Job.objects.get(id=report.publication_id).state == "succeeded"


def test_it_is_asked_once(person, report):
    ask(person, report)
    ask(person, report)
    assert Wait.objects.count() == 1


def test_two_clicks_at_the_same_moment_ask_once(person, report):
    """Neither sees the job of the other."""
    ask(person, report)
    Report.objects.update(publication_id=None)
    ask(person, report)
    assert Wait.objects.count() == Job.objects.filter(task_path__endswith=".publish").count() == 1


def test_asked_again_after_no(person, user, report):
    ask(person, report)
    answer_question("no", by=user)
    run_jobs()
    ask(person, report)
    assert Wait.objects.count() == 2


def test_private_again(person, user, report):
    ask(person, report)
    answer_question("yes", by=user)
    run_jobs()
    report.refresh_from_db()
    link = reverse("public-report", args=[report.public_token])
    person.post(reverse("report-unpublish", args=[report.pk]))
    assert Client().get(link).status_code == 404


def test_a_running_report_is_not_published(person, make_report):
    report = make_report(ok=[1], missing=1)
    set_job(report, "running", attempt=1)
    person.post(reverse("report-publish", args=[report.pk]))
    assert Report.objects.get().publication_id is None


def test_reports_of_others(person, other_user, make_report):
    theirs = make_report(owner=other_user, ok=[1])
    for name in ("report-publish", "report-unpublish"):
        assert person.post(reverse(name, args=[theirs.pk])).status_code == 404


@pytest.mark.parametrize("token", ["x", "%00", "None"])
def test_unknown_links(client, report, token):
    assert client.get(f"/public/{token}/").status_code == 404


def test_a_report_that_was_deleted_meanwhile(person, user, report):
    ask(person, report)
    report.delete()
    answer_question("yes", by=user)
    run_jobs()
    assert "The report was deleted." in Job.objects.get(state="failed").error
