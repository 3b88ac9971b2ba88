"""The list of broadcasts, the page of one with its state, and its withdrawal."""

import re

import pytest
from django.contrib.admin.models import LogEntry

from notifications.contrib.broadcasts.models import Broadcast
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, Stream
from notifications.streams import marking
from notifications.testing import run_jobs

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications_broadcasts/broadcast/"
NOTIFICATIONS = "/admin/notifications/notification/"


@pytest.fixture
def staff(sign_in_staff):
    return sign_in_staff("add_notification", "withdraw_broadcast", "view_notification", "view_job")


@pytest.fixture
def send(client):
    """send(**fields) sends a notification to everybody from the composer; the job is not run yet."""

    def send(**fields):
        form = {"title": "Maintenance", "level": "info", "audience_kind": "everybody", **fields, "_send": "1"}
        assert client.post(f"{LIST}add/", form).status_code == 302
        return Broadcast.objects.latest("id")

    return send


def page_of(client, broadcast, name="change"):
    response = client.get(f"{LIST}{broadcast.pk}/{name}/")
    assert response.status_code == 200
    return response.text


def shown(page, field):
    """Return the text of a field of the page."""
    found = re.search(rf'field-{field}".*?<div class="readonly">(.*?)</div>', page, re.S)[1]
    return re.sub(r"<[^>]*>", "", found).strip()


def state(page):
    return re.search(r"<p><strong>(.*?)</strong>", page)[1]


def test_page_and_list_say_how_far_it_is(client, staff, user, send):
    broadcast = send()
    assert state(page_of(client, broadcast)) == "Waiting to be sent"
    run_jobs(raise_errors=True)
    marking.mark(user.pk, "read", Stream.objects.get(user=user).head)
    page = page_of(client, broadcast)
    assert state(page) == "Sent" and shown(page, "sent_of") == "2" and shown(page, "read_by") == "1"
    assert shown(page, "audience_text") == "Everybody" and shown(page, "sender") == "staff"
    assert f'href="{NOTIFICATIONS}?broadcast={broadcast.pk}"' in page
    assert f'href="/admin/notifications/job/{broadcast.job}/change/"' in page
    listed = client.get(LIST).text
    assert re.search(r'class="field-state_now">Sent<', listed)
    assert re.search(r'class="field-sender[^"]*">staff<', listed)


@pytest.mark.parametrize("permissions", [("view_job",), ()])
def test_progress_is_that_of_the_job(client, sign_in_staff, client_of, make_user, send, permissions):
    """Linked while the job is active or has stopped: on the admin's page of it, or on that of its owner."""
    staff = sign_in_staff("add_notification", *permissions)
    broadcast = send()
    folder = "/admin/notifications/job/{}/change/" if permissions else "/notifications/jobs/{}/"
    link = f'<a href="{folder.format(broadcast.job)}">'
    assert f"{link}Progress</a>" in page_of(client, broadcast)
    other = make_user("other-staff", is_staff=True)
    other.user_permissions.set(staff.user_permissions.exclude(codename="view_job"))
    assert "Progress</a>" not in page_of(client_of(other), broadcast)
    cancel([broadcast.job], by=staff.pk)
    assert f"{link}Progress</a>" in page_of(client, broadcast)
    retry([broadcast.job])
    run_jobs(raise_errors=True)
    page = page_of(client, broadcast)
    assert "Progress</a>" not in page and f"{link}Sending</a>" in page


def test_stopped_sending_is_named(client, staff, user, send, monkeypatch):
    """With the remedy: to retry the job."""
    broadcast = send()
    cancel([broadcast.job], by=staff.pk)
    page = page_of(client, broadcast)
    assert state(page) == "Stopped while sending" and "Retry it to continue" in page
    retry([broadcast.job])
    run_jobs(raise_errors=True)
    assert state(page_of(client, broadcast)) == "Sent"


def test_withdrawal_asks_and_is_done_by_a_job(client, staff, user, send):
    broadcast = send(level="warning")
    run_jobs(raise_errors=True)
    marking.mark(user.pk, "read", Stream.objects.get(user=user).head)
    address = f"{LIST}{broadcast.pk}/withdraw/"
    assert f'href="{address}"' in page_of(client, broadcast)
    question = client.get(address)
    assert "Withdraw this notification?" in question.text and "<dd>1</dd>" in question.text
    assert '<span class="notifications-hidden">Warning. </span>' in question.text
    assert '<span class="notifications-title" dir="auto">Maintenance</span>' in question.text  # no link
    assert Job.objects.count() == 1
    answer = client.post(address, follow=True)
    assert state(answer.text) == "Waiting to be withdrawn"
    run_jobs(raise_errors=True)
    left = Notification.objects.filter(broadcast=broadcast.pk, archived_at=None)
    assert list(left.values_list("user_id", flat=True)) == [user.pk]
    page = page_of(client, broadcast)
    assert state(page) == "Withdrawn" and shown(page, "withdrawn") == "1" and address not in page
    assert {entry.change_message for entry in LogEntry.objects.filter(user=staff)} == {
        "Sent to 2 users. Everybody",
        "Withdrawn.",
    }
    again = client.post(address, follow=True)
    assert "It is withdrawn already" in again.text and Job.objects.count() == 2


def test_unknown_broadcasts(client, staff):
    for id in ("x", "0" * 32):
        assert client.get(f"{LIST}{id}/withdraw/").status_code == 404
    assert client.get(f"{LIST}x/change/").status_code == 302


def test_deleted_sender_and_jobs(client, staff, make_user, send):
    """The row stays, without a name and links."""
    broadcast = send()
    run_jobs()
    Broadcast.objects.update(sender=make_user("leaver"))
    type(staff).objects.get(username="leaver").delete()
    Job.objects.all().delete()
    page = page_of(client, broadcast)
    assert state(page) == "Sent" and shown(page, "sender") == "-"


def test_pages_of_the_list(client, staff):
    """They lead to each broadcast, as those of notifications do."""
    titles = [f"{number:02}" for number in range(60)]
    values = {"recipients": 1, "created_at": "2026-01-01T00:00Z"}
    Broadcast.objects.bulk_create([Broadcast(title=title, **values) for title in titles])
    first = client.get(LIST).text
    second = client.get(LIST + re.search(r'href="([^"]*)" rel="next"', first)[1].replace("&amp;", "&")).text
    assert re.search(r'rel="prev"', second)
    shown = re.findall(r"<a href=\"[^\"]*/change/\?[^\"]*\">(\d\d)</a>|/change/\">(\d\d)</a>", first + second)
    assert sorted(a or b for a, b in shown) == titles
