"""What a job was given and has stored, and what its exception says, are shown with the permissions for it only."""

import pytest
from django.core import mail
from django.core.management import call_command

from notifications import api
from notifications.contrib.deliveries.testing import send_deliveries
from notifications.contrib.operations.models import Alert
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.admin.test_permissions import (
    PAGES,
    POST_ONLY,
    SECRET,
    app_permissions,
    path_of,
    rows,  # noqa: F401 (a fixture)
)
from tests.support.django_tasks import task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

#: What the parts of the jobs of these tests hold.
ARGUMENT, RESULT, MESSAGE = "card-4711", "receipt-0815", "the-bank-has-declined"
#: The permissions without which a part is not shown, on any page.
NEEDED = {
    ARGUMENT: {"view_job_arguments"},
    RESULT: {"view_job_arguments"},
    MESSAGE: {"view_attempt", "view_traceback"},
}


@task
def pay(card):
    if RESULT.endswith("5"):
        raise ValueError("".join(["the-bank", "-has-declined"]))


@task
def print_receipt(card):
    return "".join(["receipt", "-0815"])


@pytest.fixture
def jobs(rows, user):  # noqa: F811
    """A job that has failed, and one that has succeeded."""
    failed, done = (
        Job.objects.get(pk=each.using(owner=user, title=SECRET).enqueue(ARGUMENT).id)
        for each in (pay, print_receipt)
    )
    run_jobs()
    assert MESSAGE in Attempt.objects.get(job=failed.pk).traceback
    return failed, done


def read_pages(client, rows, jobs):  # noqa: F811
    """Return the texts of the pages of the admin that open, by their names and the job."""
    found = {}
    for name, (template, _) in PAGES.items():
        if name in POST_ONLY:
            continue
        for job in jobs if "{job}" in template else jobs[:1]:
            group = rows["fields"] | {"task_path": job.task_path, "exception": "builtins.ValueError"}
            response = client.get(path_of(template, {**rows, "job": job.pk, "fields": group}))
            if response.status_code == 200:
                found[name, job.task_path] = response.text
    return found


def sign_in(make_user, client_of, permissions):
    staff = make_user("viewer", is_staff=True)
    staff.user_permissions.set(permissions)
    return client_of(staff)


@pytest.mark.parametrize("missing", sorted(set.union(*NEEDED.values())))
@pytest.mark.long
def test_no_page_shows_what_the_permission_is_missing_for(rows, jobs, make_user, client_of, missing):  # noqa: F811
    client = sign_in(make_user, client_of, app_permissions().exclude(codename=missing))
    pages = read_pages(client, rows, jobs)
    assert len(pages) > 30
    hidden = [text for text, needed in NEEDED.items() if missing in needed]
    assert [(page, text) for page, shown in pages.items() for text in hidden if text in shown] == []


def test_pages_show_them_with_all_permissions(rows, jobs, make_user, client_of):  # noqa: F811
    pages = read_pages(sign_in(make_user, client_of, app_permissions()), rows, jobs)
    shown = {text: {name for (name, _), page in pages.items() if text in page} for text in NEEDED}
    assert {"job_change", "job_run"} <= shown[ARGUMENT] and "job_change" in shown[RESULT]
    assert {"job_change", "job_changelist", "overview_changelist", "overview_figures"} <= shown[MESSAGE]


def test_what_owners_and_operators_are_sent(jobs, user, client_of, settings, capsys, make_user):
    """The owner sees results, which are theirs; nobody is told what an exception says, but by ``tell_owner``."""
    client = client_of(user)
    failed, _done = jobs
    paths = ["", "api/sync/", f"api/jobs/{failed.pk}/", f"jobs/{failed.pk}/", "api/notifications/"]
    texts = [client.get(f"/notifications/{path}") for path in paths]
    assert [page.status_code for page in texts] == [200] * len(paths)
    other = client_of(make_user("other", is_staff=True, is_superuser=True))
    texts += [other.get(f"/notifications/api/jobs/{job.pk}/") for job in jobs]
    assert {page.status_code for page in texts[-2:]} == {404}
    for page in texts:
        assert MESSAGE not in page.text and ARGUMENT not in page.text
    send_deliveries()
    sent = " ".join(message.subject + message.body for message in mail.outbox)
    for note in api.notifications_of(user):
        sent += f"{note.title} {note.body}"
    sent += " ".join(str(list(alert.__dict__.values())) for alert in Alert.objects.all())
    try:
        call_command("notifications", "doctor")
    except BaseException as exc:  # what doctor finds is its exit code
        sent += str(exc)
    sent += capsys.readouterr().out
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": "sixteen-characters"}
    sent += client.get("/notifications/metrics/", headers={"Authorization": "Bearer sixteen-characters"}).text
    assert "notifications_jobs_total" in sent and SECRET in sent
    assert MESSAGE not in sent and ARGUMENT not in sent
