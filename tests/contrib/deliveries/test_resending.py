"""A delivery that staff send again: what is sent, what is not, and never twice beside each other."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.db.models import Q
from django.utils import timezone

from notifications.admin import NotificationAdmin
from notifications.api import notify
from notifications.contrib.deliveries import preferences
from notifications.contrib.deliveries.models import Delivery, PushSubscription, Reader
from notifications.extension import AddressGone
from notifications.jobs import retry
from notifications.models import Job, Notification
from notifications.streams import marking_seen
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import choose, send_all, send_due
from tests.contrib.deliveries.test_rules import mute
from tests.contrib.deliveries.test_sending import DUMMY, REASONS
from tests.support.duties import enqueue_deliveries, run_duty
from tests.support.threads import run_in_threads

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]


@pytest.fixture
def sent(notified):
    """sent(title, **fields) returns a delivery that was sent."""

    def make(*args, **fields):
        delivery = notified(*args, **fields)
        send_due()
        delivery.refresh_from_db()
        assert delivery.state == "sent"
        return delivery

    return make


def resend_by(client, delivery):
    """Have staff send a delivery again. Return why nothing was sent, "404" if it is gone, or ""."""
    response = client.post(address_of(delivery), follow=True)
    if response.status_code == 404:
        return "404"
    # Of the text, because a context may be that of another thread.
    message = unescape(re.search(r'<ul class="messagelist">\s*<li[^>]*>([^<]+)<', response.text)[1]).strip()
    return "" if message == "It is being sent again." else message.removeprefix("Nothing was sent. ")


@pytest.fixture
def resend(admin_user, client_of):
    """See resend_by()."""
    return lambda delivery: resend_by(client_of(admin_user), delivery)


@pytest.fixture
def resend_now(resend):
    """resend_now(delivery) runs the job too."""

    def resend_now(delivery):
        reason = resend(delivery)
        run_jobs()
        delivery.refresh_from_db()
        return reason

    return resend_now


def test_sent_although_it_was_seen_and_read(sent, user, resend_now):
    delivery = sent(category="exports")
    row = Notification.objects.get()
    marking_seen.mark_seen(user.pk, row.raised)
    Notification.objects.update(read_at=timezone.now())
    ended_at = delivery.ended_at
    assert resend_now(delivery) == ""
    first, second = (email.extra_headers["Message-ID"] for email in mail.outbox)
    # Mail programs hide a second message of the same Message-ID.
    assert (first, second) == (f"<{delivery.id}@site.example>", f"<{delivery.job}@site.example>")
    assert delivery.state == "sent" and delivery.ended_at > ended_at


def test_attempts_of_one_resend_have_one_message_id(sent, mailbox, resend_now):
    delivery = sent()
    mailbox.answer_to_recipient = "451 Try again"
    assert resend_now(delivery) == ""
    assert delivery.state == "queued" and "451" in delivery.error
    mailbox.answer_to_recipient = "250 OK"
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert f"Message-ID: <{delivery.job}@site.example>".encode() in mailbox.messages[-1].content


def test_skipped_one_is_sent(notified, user, resend_now):
    delivery = notified()
    marking_seen.mark_seen(user.pk, Notification.objects.get().raised)
    send_due()
    assert Delivery.objects.get().reason == "seen" and not mail.outbox
    delivery.refresh_from_db()
    assert resend_now(delivery) == ""
    assert (delivery.state, delivery.reason, len(mail.outbox)) == ("sent", "", 1)


def test_failed_one_is_sent(notified, mailbox, resend_now):
    delivery = notified()
    mailbox.answer_to_recipient = "550 No such user"
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "failed"
    mailbox.answer_to_recipient = "250 OK"
    failed = delivery.job
    assert resend_now(delivery) == ""
    assert (delivery.state, delivery.error, len(mailbox.messages)) == ("sent", "", 1)
    # A retry by hand of the job that had failed sends nothing: the delivery has another job.
    retry([failed])
    run_jobs()
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(("change", "reason"), [row for row in REASONS if row[1] not in ("seen", "read")])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_never_although_it_was_switched_off(sent, user, change, reason, when, resend):
    """What was sent stays recorded as sent; what changes before its job runs is stored."""
    delivery = sent(key="export", category="exports")
    row = Notification.objects.get()
    if when == "meanwhile":
        assert resend(delivery) == ""
    change(row, user)
    if when == "before":
        assert resend(delivery) == ("404" if reason == "deleted" else delivery.describe_reason(reason))
    run_jobs()
    delivery.refresh_from_db()
    expected = ("sent", "") if when == "before" else ("skipped", reason)
    assert (delivery.state, delivery.reason) == expected and len(mail.outbox) == 1


def test_dead_address(sent, user, resend_now):
    delivery = sent()
    Reader.objects.create(user_id=user.pk, dead_addresses={"email": user.email})
    assert resend_now(delivery) == "A mail server had refused the address for good."
    assert len(mail.outbox) == 1


def test_pause(sent, user, resend_now, resend):
    """It is refused; a pause that begins meanwhile makes it wait."""
    delivery = sent()
    preferences.change_reader(user.pk, paused_until=timezone.now() + timedelta(hours=2))
    assert resend_now(delivery) == "The user has paused everything for now."
    preferences.change_reader(user.pk, paused_until=None)
    assert resend(delivery) == ""
    preferences.change_reader(user.pk, paused_until=timezone.now() + timedelta(hours=2))
    run_jobs()
    delivery.refresh_from_db()
    assert delivery.state == "pending" and len(mail.outbox) == 1


def test_digest_is_not_waited_for(sent, user, resend_now):
    delivery = sent(category="exports")
    choose(user, {("exports", "email"): "daily"})
    assert resend_now(delivery) == ""
    assert delivery.state == "sent" and len(mail.outbox) == 2


def test_two_at_the_same_time(sent, resend):
    """One is enqueued, the other one refused."""
    delivery = sent()
    reasons = []
    run_in_threads(*[lambda: reasons.append(resend(delivery))] * 3)
    run_jobs()
    assert sorted(map(bool, reasons)) == [False, True, True]
    assert len(mail.outbox) == 2


@pytest.mark.parametrize("state", ["pending", "queued"])
def test_one_that_is_being_sent(notified, state, resend_now):
    delivery = notified()
    Delivery.objects.update(state=state)
    assert resend_now(delivery) == "It is not decided yet, or is being sent."
    assert not Job.objects.exists() and delivery.state == state


def test_while_its_job_sends(notified, answer_mail, resend):
    """Of an attempt in the moment in which it talks to the mail server."""
    delivery = notified()
    reasons = []

    def send(email):
        run_in_threads(lambda: reasons.append(resend(delivery)))
        mail.outbox.append(email)

    answer_mail(send)
    send_due()
    assert reasons == ["It is not decided yet, or is being sent."] and len(mail.outbox) == 1


@pytest.mark.parametrize("error", [ConnectionError("away"), AddressGone("gone")])
def test_attempt_that_was_given_up_changes_nothing_of_the_resend(notified, answer_mail, error, resend):
    """Its job was recorded as ended while it hung, and it fails after the resend was enqueued."""
    delivery = notified()
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    enqueue_deliveries()
    job = Job.objects.get()

    def hang(email):
        Job.objects.filter(id=job.id).update(state="cancelled", finished_at=timezone.now())
        run_duty("fail abandoned deliveries")
        assert resend(delivery) == ""
        raise error

    answer_mail(hang)
    run_jobs(among=Q(id=job.id))
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error) == ("queued", "") and delivery.job != job.id


def test_push(service, user, other_user, resend_now):
    """To the device of the delivery, and to no other one."""
    device, _ = service.add_device(user), service.add_device(user)
    notify(user, "note")
    send_all()
    delivery = Delivery.objects.get(address=str(device.id))
    assert resend_now(delivery) == ""
    assert [message.device for message in service.messages].count(device.id) == 2
    assert len(service.messages) == 3
    PushSubscription.objects.all().delete()
    assert resend_now(delivery) == ""
    assert (delivery.state, delivery.reason) == ("skipped", "gone")


def test_project_whose_tasks_are_no_jobs(sent, settings, resend):
    delivery = sent()
    settings.TASKS = {"default": {"BACKEND": DUMMY}}
    assert resend(delivery) == "No backend in TASKS stores jobs."


def address_of(delivery):
    return f"/admin/notifications_deliveries/delivery/{delivery.id}/resend/"


def test_page_asks_before_it_sends(sent, admin_client):
    """The log of changes says who has sent it again."""
    delivery = sent()
    page = f"/admin/notifications/notification/{delivery.notification}/change/"
    assert address_of(delivery) in admin_client.get(page).text
    assert "ada@users.example" in admin_client.get(address_of(delivery)).text
    assert not LogEntry.objects.exists() and Job.objects.count() == 1
    answer = admin_client.post(address_of(delivery), follow=True)
    assert "It is being sent again." in answer.text
    assert address_of(delivery) not in answer.text  # while it is being sent
    assert LogEntry.objects.get().change_message == "Sent again: email."
    run_jobs()
    assert len(mail.outbox) == 2


def test_page_says_why_it_is_not_sent(sent, admin_client, user):
    delivery = sent(category="exports")
    mute(user, "exports")
    answer = admin_client.post(address_of(delivery), follow=True)
    assert "Nothing was sent. The user had switched it off." in answer.text
    assert not LogEntry.objects.exists() and Job.objects.count() == 1


def test_delivery_that_does_not_exist(sent, admin_client):
    delivery = sent()
    wrong = address_of(delivery).replace(str(delivery.id), str(delivery.notification))
    assert admin_client.post(wrong).status_code == 404
    assert Job.objects.count() == 1


@pytest.fixture
def register(monkeypatch):
    """register(admin_class) registers another admin of notifications, or with None none."""

    def replace(admin_class):
        monkeypatch.delitem(site._registry, Notification)
        if admin_class is not None:
            monkeypatch.setitem(site._registry, Notification, admin_class(Notification, site))

    return replace


class AdminOfOthers(NotificationAdmin):
    """Shows the notifications of one customer only."""

    def get_queryset(self, request):
        return super().get_queryset(request).exclude(user__username="ada")


class AdminOfNobody(NotificationAdmin):
    def has_view_permission(self, request, obj=None):
        return False


class AdminOfNoRow(NotificationAdmin):
    def has_view_permission(self, request, obj=None):
        return obj is None


@pytest.mark.parametrize(
    ("admin_class", "status"), [(AdminOfOthers, 404), (AdminOfNobody, 403), (AdminOfNoRow, 403), (None, 404)]
)
def test_notification_that_its_admin_does_not_show(sent, admin_client, register, admin_class, status):
    """A project limits what staff see by an admin of its own, and the page of a resend has the same limit."""
    delivery = sent()
    register(admin_class)
    for method in (admin_client.get, admin_client.post):
        response = method(address_of(delivery))
        assert response.status_code == status and "ada@users.example" not in response.text
    assert Job.objects.count() == 1 and not LogEntry.objects.exists()
