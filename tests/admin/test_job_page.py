"""The page of a job in the admin: arguments without secrets, tracebacks by permission, live state, its notification."""

import json
import re
import time
from datetime import UTC, datetime

import pytest
from django.db.models import F
from django.utils import timezone

from notifications.api import notify, policy, task
from notifications.models import Attempt, Job, Notification, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

#: What stands in place of a secret.
HIDDEN = "•••"
LIST = "/admin/notifications/job/"


@task
@policy(redact=("iban",))
def pay(customer, password, *, card=None, iban=""):
    return {"paid": customer}


def page(client, id, part="change"):
    return client.get(f"{LIST}{id}/{part}/")


@pytest.mark.parametrize("may", [True, False])
def test_arguments_and_result_need_a_permission(client, sign_in_staff, may):
    sign_in_staff("view_job", *["view_job_arguments"] * may)
    id = pay.enqueue("Ada", "hunter2").id
    run_jobs()
    text = page(client, id).text
    assert ("&quot;Ada&quot;" in text) is may
    assert ("{&quot;paid&quot;:" in text) is may
    assert "hunter2" not in text


def test_result_is_shown_without_secrets(client, sign_in_staff):
    """By the names of its keys, at any depth, and by the policy of the task. One that is damaged is not shown."""
    sign_in_staff("view_job", "view_job_arguments")
    id = pay.enqueue("Ada", "hunter2").id
    run_jobs()
    result = {"paid": 7, "iban": "DE99", "calls": [{"accessToken": {"value": "t0p"}}]}
    Job.objects.update(result=json.dumps(result))
    text = page(client, id).text
    assert f"{{&quot;paid&quot;: 7, &quot;iban&quot;: &quot;{HIDDEN}&quot;" in text
    assert "DE99" not in text and "t0p" not in text and text.count(HIDDEN) == 3
    Job.objects.update(result='{"token": "t0p"')
    text = page(client, id).text
    assert "Damaged: not JSON" in text and "t0p" not in text


@pytest.mark.parametrize("may", [True, False])
def test_traceback_needs_a_permission(client, sign_in_staff, may):
    """The timeline of attempts is shown without it."""
    sign_in_staff("view_job", "view_attempt", *["view_traceback"] * may)
    id = tasks.fail.enqueue().id
    run_jobs()
    text = page(client, id).text
    assert Attempt.objects.get().exception_class_path in text.replace("<wbr>", "")
    assert ("Traceback (most recent call last)" in text) is may


@pytest.mark.parametrize(
    ("count", "shown", "heading"),
    [(20, 20, ""), (21, 20, ": the newest 20 of 21"), (1_001, 20, ": the newest 20 of over 1,000")],
)
def test_only_the_newest_attempts_are_shown(client, sign_in_staff, count, shown, heading):
    """A job may have any number of them. The page says how many there are, up to a limit."""
    sign_in_staff("view_job", "view_attempt")
    id = tasks.noop.enqueue().id
    Job.objects.update(attempt=count + 1)
    numbers = range(1, count + 1)
    Attempt.objects.bulk_create(
        Attempt(job_id=id, number=number, ended_at=timezone.now(), outcome="failed") for number in numbers
    )
    text = page(client, id).text
    found = re.findall(r'<th scope="row"[^>]*>(\d+)</th>', text)
    assert [int(number) for number in found] == list(reversed(numbers))[:shown]
    [words] = re.findall(r"Attempts that did not succeed(.*?)</h2>", text)
    assert words == heading


def test_notification_and_when_it_was_read(client, sign_in_staff, user):
    sign_in_staff("view_job", "view_notification")
    id = tasks.noop.using(owner=user, title="Report").enqueue().id
    run_jobs()
    note = Notification.objects.get()
    text = page(client, id).text
    assert f"/admin/notifications/notification/{note.pk}/change/" in text and ", not read" in text
    for number in range(3):
        notify(user, f"Another {number}")
    Notification.objects.update(read_at="2031-02-03T04:05:00Z")
    assert "read Feb. 3, 2031" in page(client, id).text


def test_trace_id_is_shown(client, sign_in_staff):
    sign_in_staff("view_job")
    id = tasks.noop.enqueue().id
    Job.objects.update(trace=f"00-{'ab' * 16}-{'cd' * 8}-01")
    assert "ab" * 16 in page(client, id).text


def test_deadline_is_that_of_a_running_job(client, sign_in_staff):
    sign_in_staff("view_job")
    id = tasks.noop.enqueue().id
    shown = re.compile(r"Deadline:</[^>]*>\s*<div class=\"readonly\">(.*?)</div>", re.DOTALL)
    columns = {"deadline": datetime(2031, 2, 3, 4, 5, tzinfo=UTC)}
    for state, expected in (
        ("queued", '<span class="none">-</span>'),
        ("running", "Feb. 3, 2031, 4:05 a.m."),
    ):
        Job.objects.update(state=state, worker=uuid7(), **columns)
        assert shown.search(page(client, id).text)[1] == expected


@pytest.fixture
def lasting_etags(set_bounds):
    """ETags change with the rows only, not with the time."""
    set_bounds(known=1e9)


def test_the_page_is_reloaded_while_the_job_is_not_done(client, sign_in_staff, lasting_etags):
    """It names an address with its parts, which answers 304 until something has changed."""
    sign_in_staff("view_job", "change_job", "view_attempt", "view_traceback", "view_job_arguments")
    id = tasks.fail.enqueue().id
    address = f"{LIST}{id}/state/?background=1"
    assert f'data-overview-figures="{address}"' in page(client, id).text
    first = client.get(address)
    assert "Queued" in first.text
    # In each theme of the admin that is the form.
    [form] = re.findall(r'<form[^>]* id="job_form".*?</form>', first.text, re.DOTALL)
    assert "Cancel this job" in form and "Run this job now" not in form  # it is due
    assert form.count('name="_selected_action"') == 1
    assert client.get(address, headers={"If-None-Match": first["ETag"]}).status_code == 304
    Job.objects.update(
        progress_current=3, progress_total=10, progress_message="<b>", version=F("version") + 1
    )
    changed = client.get(address, headers={"If-None-Match": first["ETag"]})
    assert '<progress max="10" value="3"' in changed.text and "3 / 10 · &lt;b&gt;" in changed.text
    assert "data-overview-final" not in changed.text
    run_jobs()
    ended = client.get(address).text
    assert "data-overview-final" in ended, "the page stops to request it"
    for part in ("Traceback (most recent call last)", "Try this job again"):
        assert part in ended
    assert "data-overview-figures" not in page(client, id).text
    assert client.get(f"{LIST}x/state/").status_code == 404


@pytest.mark.parametrize("address", ["{id}/state/", "rows/?ids={id}"])
def test_the_etag_says_nothing_of_the_arguments(client, sign_in_staff, lasting_etags, settings, address):
    """Who may not see them could try which ones have this hash."""
    staff = sign_in_staff("view_job")
    id = tasks.fail.enqueue().id
    etags = []
    for password in ("4711", "4712"):
        Job.objects.update(kwargs=json.dumps({"password": password}), result=password, error="{}")
        etags.append(client.get(LIST + address.format(id=id))["ETag"])
    assert etags[0] == etags[1]
    settings.SECRET_KEY += "2"
    client.force_login(staff)
    assert client.get(LIST + address.format(id=id))["ETag"] != etags[0]


def test_rows_of_the_list_are_reloaded_while_a_job_is_not_done(client, sign_in_staff, lasting_etags):
    """The columns that change, of the jobs that the list shows."""
    sign_in_staff("view_job", "view_attempt")
    id = tasks.fail.enqueue().id
    listed = client.get(LIST).text
    [address] = re.findall(r'data-overview-figures="([^"]+)"', listed)
    first = client.get(address)
    parts = re.findall(r'<span id="([^"]+)" data-overview-part>', first.text)
    assert len(parts) == 3 and all(f'id="{part}" data-overview-part' in listed for part in parts)
    assert "Queued" in first.text
    assert client.get(address, headers={"If-None-Match": first["ETag"]}).status_code == 304
    run_jobs()
    ended = client.get(address, headers={"If-None-Match": first["ETag"]}).text
    assert "Failed" in ended and f"{LIST}{id}/change/#attempts-heading" in ended
    assert "data-overview-final" in ended
    assert "data-overview-figures" not in client.get(LIST).text
    assert client.get(f"{LIST}rows/?ids=x").status_code == 400


def test_what_lasts_changes_without_the_row(client, sign_in_staff, monkeypatch):
    """How long a job has run, its steps and its output."""
    sign_in_staff("view_job")
    address = f"{LIST}{tasks.noop.enqueue().id}/state/"
    tags = []
    for seconds in (100.0, 101.0, 105.0):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        tags.append(client.get(address)["ETag"])
    assert tags[0] == tags[1] != tags[2]


def test_a_reload_by_the_script_shows_no_message(client, sign_in_staff):
    """It is for the page that is loaded after the change, which may be another one."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.enqueue().id
    client.post(LIST, {"action": "cancel_jobs", "_selected_action": id})
    assert "messagelist" not in client.get(f"{LIST}{id}/state/").text
    assert "messagelist" in page(client, id).text


def test_redact_takes_names():
    with pytest.raises(TypeError, match=r"redact is 'iban'\. It must be a tuple of names"):
        policy(redact="iban")


def test_fields_without_a_value(admin_client):
    """A dash stands for each: a job that waits has no batch, worker or times."""
    id = tasks.noop.enqueue().id
    text = page(admin_client, id).text
    found = dict(re.findall(r'(?:fieldBox|form-row) field-(\w+)">.*?"readonly">(.*?)</div>', text, re.DOTALL))
    empty = ("batch_jobs", "worker_now", "took", "waited", "started", "finished", "trace_id")
    assert {name: re.sub("<.*?>", "", found[name]) for name in empty} == dict.fromkeys(empty, "-")
    assert "timeline-heading" not in text, "One that was never started has nothing to tell."
