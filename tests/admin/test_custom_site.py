"""The app's pages on an admin site of the project's own, where the default one is not mounted."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin as django_admin
from django.contrib.admin import AdminSite
from django.core.management import call_command
from django.urls import include, path, set_script_prefix

from notifications import admin
from notifications.contrib.operations.admin import AlertAdmin, OverviewAdmin
from notifications.contrib.operations.models import Alert, Overview
from notifications.contrib.schedules.models import Schedule
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

ADMINS = {
    Alert: AlertAdmin,
    Job: admin.JobAdmin,
    Notification: admin.NotificationAdmin,
    Overview: OverviewAdmin,
    Schedule: type(django_admin.site.get_model_admin(Schedule)),
}


def make_urlconf(*models):
    """Return a URLconf with an admin site at operations/ that has the pages of these models."""
    site = AdminSite(name="operations")
    for model in models:
        site.register(model, ADMINS[model])

    class UrlConf:
        urlpatterns = [
            path("operations/", site.urls),
            path("notifications/", include("notifications.urls")),
        ]

    return UrlConf


@pytest.fixture
def client_of_site(admin_client, settings, user):
    """client_of_site(*models) returns a client, with a job that has failed and a schedule that was run."""
    schedules = {"nightly": {"task": "tests.jobs.tasks.noop", "every": timedelta(days=1)}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules}
    settings.LOGIN_REDIRECT_URL = settings.LOGOUT_REDIRECT_URL = "/operations/"

    def mount(*models):
        settings.ROOT_URLCONF = make_urlconf(*models)
        call_command("notifications", "schedules", "run", "nightly")
        tasks.fail.using(owner=user).enqueue()
        run_jobs()
        return admin_client

    yield mount
    set_script_prefix("/")


def get(client, address, expected=200):
    """Return the text of a page after opening each page of the site that it links to."""
    response = client.get(address)
    assert response.status_code == expected, (address, response.status_code)
    assert "/admin/" not in re.sub(r"/static/[^\"]*", "", response.text)
    return response.text


def links_of(text):
    return {link for link in re.findall(r'href="(/[^"#?]*)', text) if "/operations/" in link}


@pytest.mark.parametrize("prefix", ["/", "/app/"])
def test_each_page(client_of_site, prefix):
    """Each page opens and links to this site only, also below a script name."""
    client = client_of_site(*ADMINS)
    set_script_prefix(prefix)
    job = Job.objects.get(task_path="tests.jobs.tasks.fail")
    root, operations = "/operations/notifications/", "/operations/notifications_operations/"
    note = Notification.objects.first()
    addresses = [
        *(f"{root}{name}/" for name in ("job", "notification")),
        *(f"{operations}{name}/" for name in ("alert", "overview")),
        "/operations/notifications_schedules/schedule/",
        *(f"{root}job/{job.pk}/{name}/" for name in ("change", "history", "state")),
        *(
            f"{root}notification/{note.pk}/change/",
            "/operations/notifications_schedules/schedule/nightly/change/",
            f"{operations}overview/figures/",
        ),
    ]
    found = {address: links_of(get(client, address)) for address in addresses}
    assert f"{prefix}operations/notifications/job/{job.pk}/change/" in found[addresses[0]]
    for link, address in {link: address for address, links in found.items() for link in links}.items():
        assert link.startswith(prefix), (address, link)
        plain = "/" + link.removeprefix(prefix)
        if "/auth/" not in plain and "logout" not in plain and "password" not in plain:
            assert client.get(plain).status_code == 200, (address, link)


def test_changes(client_of_site):
    """The actions, the change of all jobs of a filter and the retry of a group end on pages of this site."""
    client = client_of_site(*ADMINS)
    root, operations = "/operations/notifications/", "/operations/notifications_operations/"
    form = {"action": "retry_jobs", "_selected_action": "0" * 32, "select_across": "1"}
    question = client.post(f"{root}job/?state__exact=failed", form)
    assert "<h1>Retry 1 job?</h1>" in question.text and "/admin/" not in re.sub(
        r"/static/[^\"]*", "", question.text
    )
    form["counted"] = re.search(r'name="counted" value="([^"]*)"', question.text)[1]
    answer = client.post(f"{root}job/?state__exact=failed", {**form, "confirmed": "1"}, follow=True)
    assert answer.status_code == 200 and answer.redirect_chain[-1][0].startswith(f"{root}job/")
    Job.objects.exclude(task_path="tests.jobs.tasks.fail").delete()
    form = re.search(r"<form method=\"get\".*?</form>", client.get(f"{operations}overview/").text)[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    answer = client.post(f"{operations}overview/retry/", {**fields, "confirm": "1"}, follow=True)
    assert answer.status_code == 200 and answer.redirect_chain[-1][0].startswith(f"{root}job/")


def test_some_pages_only(client_of_site):
    """A site without jobs, or without notifications, shows no links to them, and a retry ends on the overview."""
    client = client_of_site(Overview, Schedule)
    operations = "/operations/notifications_operations/"
    schedules = "/operations/notifications_schedules/schedule/"
    for address in (f"{operations}overview/", schedules, f"{schedules}nightly/change/"):
        assert "/job/" not in get(client, address)
    form = re.search(r"<form method=\"get\".*?</form>", client.get(f"{operations}overview/").text)[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    answer = client.post(f"{operations}overview/retry/", {**fields, "confirm": "1"}, follow=True)
    assert answer.redirect_chain == [(f"{operations}overview/", 302)] and answer.status_code == 200


def test_jobs_without_notifications(client_of_site):
    """The page of a job names its notification without a link."""
    client = client_of_site(Job)
    job = Job.objects.get(task_path="tests.jobs.tasks.fail")
    assert ", not read" in get(client, f"/operations/notifications/job/{job.pk}/change/")
