"""What is sent when a delivery is due, and what is not and why."""

import errno
from collections import Counter
from datetime import timedelta

import django
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.template.backends.django import Template
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.contrib.deliveries import (
    sending,
)
from notifications.contrib.deliveries.models import Delivery
from notifications.extension import hooks
from notifications.jobs import retry
from notifications.models import Job, Notification
from notifications.streams import marking_seen
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import send_due
from tests.contrib.deliveries.test_rules import mute
from tests.support.duties import enqueue_deliveries, run_duty
from tests.support.push_service import vapid_key
from tests.support.statements import refused
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

DUMMY = ("django.tasks" if django.VERSION >= (6, 0) else "django_tasks") + ".backends.dummy.DummyBackend"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def test_open_notification_is_sent_once(notified):
    delivery = notified("The export is ready", url="/exports/1/")
    enqueue_deliveries()
    assert not Job.objects.exists()  # not due yet
    for _ in range(2):
        send_due()
    (email,) = mail.outbox
    assert (email.subject, email.to) == ("The export is ready", ["ada@users.example"])
    assert "https://site.example/exports/1/" in email.body
    delivery.refresh_from_db()
    assert (delivery.state, delivery.address, delivery.error) == ("sent", "ada@users.example", "")
    assert delivery.ended_at and Job.objects.get().id == delivery.job
    assert not Notification.objects.exclude(id=delivery.notification).exists()  # nobody is told of the job


def see(row, user):
    marking_seen.mark_seen(user.pk, row.raised)


def read(row, user):
    Notification.objects.filter(id=row.id).update(read_at=timezone.now())


def archive(row, user):
    Notification.objects.filter(id=row.id).update(archived_at=timezone.now())


def replace(row, user):
    notify(user, "A newer one", key="export", deliver=[])


def delete(row, user):
    row.delete()


def deactivate(row, user):
    type(user).objects.filter(pk=user.pk).update(is_active=False)


def remove_address(row, user):
    type(user).objects.filter(pk=user.pk).update(email="")


def break_address(row, user):
    type(user).objects.filter(pk=user.pk).update(email="ada@users.example\nBcc: all@users.example")


def switch_off(row, user):
    mute(user, "exports")


REASONS = [
    (see, "seen"),
    (read, "read"),
    (archive, "archived"),
    (replace, "archived"),
    (delete, "deleted"),
    (switch_off, "off"),
    (deactivate, "inactive"),
    (remove_address, "no-address"),
    (break_address, "no-address"),
]


@pytest.mark.parametrize(("change", "reason"), REASONS)
@pytest.mark.parametrize("when", ["before it is due", "before it is due again", "before its job runs"])
def test_reasons_not_to_send(notified, user, change, reason, when):
    """They are looked at when it is due, also after an attempt, and once more by the job."""
    delivery = notified(key="export", category="exports")
    row = Notification.objects.get(id=delivery.notification)
    if when == "before it is due again":
        Delivery.objects.update(address=user.email, attempted_at=timezone.now())
    if when == "before its job runs":
        Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        enqueue_deliveries()
    change(row, user)
    send_due()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == ("skipped", reason)
    assert delivery.ended_at and not mail.outbox
    assert Job.objects.count() == (when == "before its job runs")


def test_seen_of_another_notification(notified, user):
    """What was raised after the last look is sent."""
    first = notified("first")
    see(Notification.objects.get(id=first.notification), user)
    second = notified("second")
    send_due()
    assert [email.subject for email in mail.outbox] == ["second"]
    assert {first.id: "skipped", second.id: "sent"} == dict(Delivery.objects.values_list("id", "state"))


def test_concurrent_processes_enqueue_each_once(make_user, by_email):
    """Also more than one chunk."""
    users = [make_user(f"user{number}", email=f"{number}@users.example") for number in range(60)]
    notify(users, "note")
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))

    run_in_threads(*[enqueue_deliveries] * 3)
    enqueue_deliveries()
    assert Job.objects.count() == 60
    assert set(Delivery.objects.values_list("job", flat=True)) == set(
        Job.objects.values_list("id", flat=True)
    )
    run_jobs()
    assert len({email.to[0] for email in mail.outbox}) == len(mail.outbox) == 60


def test_answer_is_kept_until_the_database_takes_it(notified, short_pauses):
    """While it is away the attempt goes on, and the message is sent once."""
    delivery = notified()
    with refused("UPDATE .notifications_deliveries_delivery.*SENT", times=2) as failures:
        send_due()
        run_until_idle()
    assert [email.extra_headers["Message-ID"] for email in mail.outbox] == [f"<{delivery.id}@site.example>"]
    assert len(failures) == 2 and Delivery.objects.get().state == "sent"
    assert Job.objects.get().attempt == 1


def test_row_that_is_deleted_while_it_is_sent(notified, answer_mail):
    delivery = notified()
    answer_mail(lambda email: Delivery.objects.all().delete())
    send_due()
    assert Job.objects.get().state == "succeeded" and not Delivery.objects.filter(id=delivery.id)


def test_user_whose_row_raises_holds_up_nobody(notified, make_user, monkeypatch):
    """Code of the project's user model runs in the job only, outside of a transaction."""
    bad = make_user("bob", email="bob@users.example")
    notify(bad, "bad")
    neighbor = notified("good")
    from_db = type(bad).from_db.__func__

    def raise_for_bob(cls, *args, **kwargs):
        assert not connection.in_atomic_block
        row = from_db(cls, *args, **kwargs)
        if row.username == "bob":
            raise KeyError("key of the encryption")
        return row

    monkeypatch.setattr(type(bad), "from_db", classmethod(raise_for_bob))
    send_due()
    assert Delivery.objects.get(id=neighbor.id).state == "sent"
    run_duty("fail abandoned deliveries")
    assert Delivery.objects.get(user=bad.pk).state == "failed"
    assert Job.objects.filter(state="failed").count() == 1


@pytest.mark.parametrize("event", ["job.succeeded", "job.failed", "notification.created"])
@pytest.mark.with_all_apps("the handlers of events are those of webhooks")
def test_no_events_of_the_jobs(notified, configure, mailbox, event):
    """A handler that notifies would cause the next e-mail, without end."""
    configure([{"email": 0}], HANDLERS={event: ["tests.jobs.tasks.noop"]})
    assert hooks.own_tasks[sending.deliver.module_path].is_silent
    mailbox.answer_to_recipient = "250 OK" if event == "job.succeeded" else "550 No such user"
    notified()
    send_due()
    paths = set(Job.objects.values_list("task_path", flat=True))
    of_handler = {"tests.jobs.tasks.noop"} if event == "notification.created" else set()
    assert paths == {sending.deliver.module_path} | of_handler


@pytest.mark.parametrize("end", ["failed", "cancelled", "deleted"])
def test_job_that_ends_without_sending(notified, end):
    """A worker that is lost in the last attempt, a cancellation by hand, and a job that was pruned."""
    delivery = notified()
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    enqueue_deliveries()
    run_duty("fail abandoned deliveries")
    assert Delivery.objects.get().state == "queued"
    if end == "deleted":
        Job.objects.all().delete()
    else:
        Job.objects.update(state=end, finished_at=timezone.now())
    run_duty("fail abandoned deliveries")
    delivery.refresh_from_db()
    assert delivery.state == "failed" and "before it was recorded" in delivery.error


def test_address_of_the_site_is_missing(notified, configure):
    """It is tried again, because the setting may be written meanwhile."""
    delivery = notified()
    configure([{"email": 600}], SITE_URL="")
    send_due()
    assert Delivery.objects.get().state == "queued"
    configure([{"email": 600}])
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "sent" and len(mail.outbox) == 1


def test_template_that_raises(notified, monkeypatch):
    """It fails at once with its error, and its neighbor is sent."""

    def render(template, context, request):
        if context["title"] == "bad":
            raise KeyError("total")
        return "text"

    delivery, neighbor = notified("bad"), notified("good")
    monkeypatch.setattr(Template, "render", render)
    send_due()
    delivery.refresh_from_db()
    neighbor.refresh_from_db()
    assert (delivery.state, delivery.error) == (
        "failed",
        "The e-mail cannot be made: KeyError: 'total'",
    )
    assert neighbor.state == "sent"
    assert set(Job.objects.values_list("id", "state")) == {
        (delivery.job, "failed"),
        (neighbor.job, "succeeded"),
    }


@pytest.mark.parametrize("exc", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=repr)
def test_template_that_lacks_a_resource(notified, monkeypatch, exc):
    """Loading it opens files. It is tried again, and nothing is lost."""
    failures, render = [exc], Template.render

    def fail_once(*args, **options):
        if failures:
            raise failures.pop()
        return render(*args, **options)

    delivery = notified()
    monkeypatch.setattr(Template, "render", fail_once)
    send_due()
    # Nothing can have arrived.
    assert (Delivery.objects.get().state, Delivery.objects.get().attempted_at) == ("queued", None)
    run_until_idle()
    delivery.refresh_from_db()
    assert delivery.state == "sent" and len(mail.outbox) == 1


def test_retry_by_hand_sends_again(notified, mailbox):
    """Of the failed job, which the admin and the terminal offer. What was seen meanwhile is not sent."""
    delivery, seen = notified("a"), notified("b")
    mailbox.answer_to_recipient = "550 No such user"
    send_due()
    assert set(Delivery.objects.values_list("state", flat=True)) == {"failed"}
    mailbox.answer_to_recipient = "250 OK"
    Notification.objects.filter(id=seen.notification).update(read_at=timezone.now())
    assert len(retry(Job.objects.values_list("id", flat=True))) == 2
    run_jobs()
    assert dict(Delivery.objects.values_list("id", "state")) == {delivery.id: "sent", seen.id: "skipped"}
    assert len(mailbox.messages) == 1


def test_retry_by_hand_that_is_tried_again(notified, mailbox):
    """It has not ended then."""
    delivery = notified()
    mailbox.answer_to_recipient = "550 No such user"
    send_due()
    mailbox.answer_to_recipient = "451 Try again"
    assert retry(Job.objects.values_list("id", flat=True))
    run_jobs()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.ended_at) == ("queued", None) and "451" in delivery.error


def test_project_whose_tasks_are_no_jobs(notified, settings):
    """Its deliveries wait until there is a backend that stores jobs."""
    delivery = notified()
    stored = settings.TASKS
    settings.TASKS = {"default": {"BACKEND": DUMMY}}
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    enqueue_deliveries()
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    settings.TASKS = stored
    send_due()
    delivery.refresh_from_db()
    assert delivery.state == "sent"


def test_worker_sends(notified, start_worker, frequent_sending):
    """The duty is done by workers, without a call."""
    delivery = notified()
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    start_worker()
    wait_until(lambda: Delivery.objects.filter(id=delivery.id, state="sent").exists(), what="the e-mail")
    assert len(mail.outbox) == 1


def test_rows_are_deleted_with_their_notifications(notified, user):
    """By retention, and with their user."""
    old, kept = notified("old"), notified("kept")
    ended = timezone.now() - timedelta(days=40)
    Notification.objects.filter(id=old.notification).update(archived_at=ended)
    streams.number([user.pk])
    call_command("notifications", "prune")
    assert [row.id for row in Delivery.objects.all()] == [kept.id]
    user.delete()
    call_command("notifications", "prune")
    assert not Delivery.objects.exists()


def test_who_cannot_be_reached_gets_no_job(configure, make_user, service):
    """One query of users finds it out for a chunk."""
    configure([{"push": 0}, {"email": 0}], **settings_of_push(service))
    users = [make_user(f"user{number}", email="") for number in range(5)]
    notify(users, "Hello")
    send_due_now()
    assert not Job.objects.exists()
    assert Counter(Delivery.objects.values_list("channel", "reason")) == {
        ("email", "no-address"): 5,
        ("push", "no-address"): 5,
    }


def settings_of_push(service):
    return {
        "WEB_PUSH": {"private_key": vapid_key(), "subject": "mailto:admin@site.example"},
        "OUTBOUND_ALLOW": [service.address],
    }


def send_due_now():
    enqueue_deliveries()
    run_until_idle()


def test_one_that_failed_and_is_retried_in_a_pause_has_not_ended(notified, user, client_of, mailbox):
    """It waited for the end of the pause with the time at which it had failed."""
    notified()
    mailbox.answer_to_recipient = "550 No such user"
    send_due()
    until = (timezone.now() + timedelta(hours=1)).isoformat()
    path, values = "/notifications/api/preferences/", {"paused_until": until}
    assert client_of(user).post(path, values, content_type="application/json").status_code == 200
    retry(Job.objects.values_list("id", flat=True))
    run_jobs()
    assert Delivery.objects.values_list("state", "ended_at").get() == ("pending", None)
