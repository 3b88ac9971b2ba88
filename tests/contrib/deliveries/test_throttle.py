"""E-mails that are due soon after one another are joined in one message."""

from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries.models import ChannelOutage, Delivery, Throttle
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import choose, read_choices, send_due
from tests.support.duties import enqueue_deliveries
from tests.support.threads import run_in_threads

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]

JOB = "notifications.contrib.deliveries.sending.deliver_digest"


@pytest.fixture(autouse=True)
def throttled(by_email, set_throttle):
    """Other tests have no throttle."""
    set_throttle(10)


def pass_time(**time):
    """Move all times that wait into the past, as if this time had passed."""
    before = timedelta(**time)
    for row in Throttle.objects.all():
        row.ends_at -= before
        row.joined_since = row.joined_since and row.joined_since - before
        row.save()
    for job in Job.objects.filter(state="queued", run_after__isnull=False):
        Job.objects.filter(pk=job.pk).update(run_after=job.run_after - before, due_at=job.run_after - before)
    run_jobs()


def minutes_left():
    """Return in how many minutes the message is sent."""
    job = Job.objects.get(task_path=JOB, state="queued")
    assert job.run_after == Throttle.objects.get().ends_at
    return round((job.run_after - timezone.now()) / timedelta(minutes=1))


def subjects():
    return [email.subject for email in mail.outbox]


def test_the_second_within_ten_minutes_joins_a_message(user):
    """It ends ten minutes after the last, whatever has joined meanwhile."""
    for number in range(12):
        notify(user, f"Number {number}")
        send_due()
    assert subjects() == ["Number 0"] and minutes_left() == 10
    pass_time(minutes=9)
    assert len(mail.outbox) == 1
    notify(user, "The last one")
    send_due()
    assert minutes_left() == 10
    pass_time(minutes=11)
    assert subjects() == ["Number 0", "The last one and 11 more"]
    assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}


def test_one_after_ten_minutes_is_sent_by_itself(user):
    for number in range(3):
        notify(user, f"Number {number}")
        send_due()
        pass_time(minutes=11)
    assert subjects() == ["Number 0", "Number 1", "Number 2"]


def test_a_message_ends_an_hour_after_the_first(user):
    notify(user, "By itself")
    for _ in range(8):
        notify(user, "Joins")
        send_due()
        pass_time(minutes=8)
    assert len(mail.outbox) == 2 and mail.outbox[1].subject == "Joins and 7 more"


def test_what_comes_soon_after_a_message_joins_the_next_one(user):
    for number in range(3):
        notify(user, f"Number {number}")
    send_due()
    pass_time(minutes=11)
    notify(user, "Soon after")
    send_due()
    assert len(mail.outbox) == 2 and minutes_left() == 10
    pass_time(minutes=11)
    assert subjects()[1:] == ["Number 2 and 1 more", "Soon after"]


@pytest.mark.long
def test_hundreds_at_once_are_two_emails(user):
    """Also if several processes look for what is due."""
    for number in range(480):
        notify(user, f"Number {number}", deliver=None)
    Delivery.objects.update(due_at=timezone.now() - timedelta(hours=5))

    def enqueue():
        enqueue_deliveries()

    run_in_threads(*[enqueue] * 3)
    enqueue()
    run_jobs()
    pass_time(minutes=11)
    assert len(mail.outbox) == 2 and mail.outbox[1].subject == "Number 479 and 478 more"
    assert "429 more are in the inbox." in mail.outbox[1].body
    assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}


def test_others_do_not_wait(user, other_user):
    type(other_user).objects.filter(pk=other_user.pk).update(email="bob@users.example")
    for recipient in (user, user, other_user):
        notify(recipient, f"For {recipient.pk}")
    send_due()
    assert sorted(email.to[0] for email in mail.outbox) == ["ada@users.example", "bob@users.example"]


def test_statements_do_not_grow_with_users(make_user):
    """Neither of those that open a window, nor of those that join a message, whose job they postpone."""

    def count_statements(number):
        users = [make_user(f"{number}-{n}", email=f"{number}-{n}@users.example") for n in range(number)]
        counts = []
        for title in ("By itself", "First of a message", "Joins"):
            notify(users, title)
            Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
            with CaptureQueriesContext(connection) as queries:
                enqueue_deliveries()
            counts.append(len(queries))
        assert not Delivery.objects.filter(state="pending").exists()
        jobs = Job.objects.in_bulk(Throttle.objects.filter(user__in=users).values_list("job", flat=True))
        found = Throttle.objects.filter(user__in=users).values_list("user", "job", "ends_at")
        for user, job, ends_at in found:
            joined = Delivery.objects.filter(user=user, job=job)
            assert (jobs[job].run_after, jobs[job].version, joined.count()) == (ends_at, 2, 2)
        assert len({job for _, job, _ in found}) == number
        return counts

    assert count_statements(12) == count_statements(2)


def as_question(user):
    (id,) = notify(user, "Exempt")
    Notification.objects.filter(id=id).update(open_question=id)


def as_alert(user):
    notify(user, "Exempt", category="alert")


def with_steps(user):
    notify(user, "Exempt", deliver=[{"email": 0}])


@pytest.mark.parametrize("make", [as_question, as_alert, with_steps])
def test_what_is_sent_by_itself(user, configure, make):
    configure([{"email": 600}])
    notify(user, "First")
    for _ in range(2):
        make(user)
    send_due()
    assert sorted(subjects()) == ["Exempt", "Exempt", "First"]


def test_what_was_read_meanwhile_is_left_out(user):
    """A single one is then an e-mail of its own."""
    for number in range(3):
        notify(user, f"Number {number}")
    send_due()
    Notification.objects.filter(title="Number 1").update(read_at=timezone.now())
    pass_time(minutes=11)
    assert subjects() == ["Number 0", "Number 2"]


@pytest.mark.parametrize("has_joined", [True, False])
def test_one_that_is_decided_again_does_not_wait_for_itself(user, has_joined):
    """As after an outage of the mail server, or a pause of its user."""
    notify(user, "First")
    Delivery.objects.update(due_at=timezone.now())
    enqueue_deliveries()
    Delivery.objects.update(state="pending", job=None)
    if has_joined:
        notify(user, "Second")
        Delivery.objects.filter(notification=Notification.objects.get(title="Second").pk).update(
            due_at=timezone.now() - timedelta(hours=1)
        )
        Delivery.objects.exclude(due_at__lt=timezone.now() - timedelta(minutes=1)).update(
            due_at=timezone.now() + timedelta(hours=1)
        )
        enqueue_deliveries()
    send_due()
    assert subjects() == ["First"]
    pass_time(minutes=11)
    assert subjects() == ["First", *["Second"] * has_joined]


def test_they_wait_while_the_mail_server_does_not_answer(user, make_user):
    """Without jobs; then one is the next try, whose user's others join a message."""
    soon = timezone.now() + timedelta(minutes=1)
    ChannelOutage.objects.create(channel="email", timeouts=3, suspended_until=soon)
    notify(make_user("bob", email="bob@users.example"), "Of Bob")
    for title in ("First", "Second", "Third"):
        notify(user, title)
    Delivery.objects.update(due_at=timezone.now())
    enqueue_deliveries()
    assert not Job.objects.exists()
    assert not Delivery.objects.filter(due_at__lte=timezone.now()).exists()
    for model, field in ((ChannelOutage, "suspended_until"), (Delivery, "due_at")):
        model.objects.update(**{field: timezone.now()})
    enqueue_deliveries()
    assert Job.objects.exclude(task_path=JOB).count() == 1
    run_jobs()
    assert len(mail.outbox) == 1 and not ChannelOutage.objects.exists()
    send_due()
    pass_time(minutes=11)
    assert sorted(subjects()) == ["First", "Of Bob", "Third and 1 more"]


def test_one_that_may_have_been_sent_joins_no_message(user):
    """Programs would show it twice: it is sent in the same e-mail again."""
    for title in ("First", "Second"):
        notify(user, title)
    second = Delivery.objects.get(notification=Notification.objects.get(title="Second").pk)
    Delivery.objects.filter(pk=second.pk).update(attempted_at=timezone.now())
    send_due()
    assert sorted(subjects()) == ["First", "Second"]
    assert f"<{second.pk}@site.example>" in [email.extra_headers["Message-ID"] for email in mail.outbox]


def test_a_chosen_digest_is_none_of_this(user):
    choose(user, {("export", "email"): "daily"})
    for category in ("export", "other", "export"):
        notify(user, category, category=category)
    send_due()
    assert subjects() == ["other"]
    assert Delivery.objects.filter(state="queued").values("job").distinct().count() == 1


def test_a_message_whose_job_was_cancelled_is_not_joined(user):
    for _ in range(2):
        notify(user, "First")
    send_due()
    Job.objects.filter(task_path=JOB).update(state="cancelled", finished_at=timezone.now())
    for _ in range(2):
        notify(user, "Second")
    send_due()
    pass_time(minutes=11)
    assert subjects() == ["First", "Second and 1 more"]


def test_a_group_is_one_row(user):
    """Worded as in the inbox, with the link to its notifications, however many there are."""
    notify(user, "By itself")
    for number in range(60):
        notify(user, f"Receipt {number}", group="Receipts", level="success" if number % 2 else "error")
    notify(user, "Alone")
    send_due()
    pass_time(minutes=11)
    body = mail.outbox[1].body
    assert mail.outbox[1].subject == "Receipts: 30 failed, 30 succeeded and 1 more"
    assert "Receipt 58" in body and "Receipt 59" not in body
    assert body.count("\n- ") == 2 and "- Receipts: 30 failed, 30 succeeded\n" in body and "- Alone\n" in body
    assert "https://site.example/notifications/?group=n%3AReceipts" in body
    assert "more" not in body and "in one e-mail because they came within a short time" in body


@pytest.mark.parametrize("categories", [["export"], ["export", "", "reports"]])
def test_it_is_unsubscribed_from_all_of_its_categories(user, categories):
    """With one click, and Undo restores each."""
    notify(user, "By itself")
    for category in categories * 2:
        notify(user, "note", category=category)
    send_due()
    pass_time(minutes=11)
    headers = mail.outbox[1].extra_headers
    link = headers["List-Unsubscribe"].removeprefix("<https://site.example").removesuffix(">")
    page = Client().get(link).content.decode()
    assert "Export" in page
    Client().post(link, {"List-Unsubscribe": "One-Click"})
    found = {key: choice for (key, _), choice in read_choices(user).items()}
    assert found == dict.fromkeys(categories, "off")
    Client().post(link, {"action": "undo"})
    assert read_choices(user) == {}


class TestRequired:
    """Mails of required categories are joined with one another, and wait for none of the others."""

    @pytest.fixture(autouse=True)
    def required(self, configure, set_throttle):
        configure([{"email": 600}], CATEGORIES={"security": {"name": "Security", "required": True}})
        set_throttle(10)

    def test_many_with_one_subject_are_two_emails(self, user):
        for _ in range(33):
            notify(user, "A new sign-in", category="security")
            send_due()
        assert subjects() == ["A new sign-in"] and minutes_left() == 10
        pass_time(minutes=11)
        assert subjects() == ["A new sign-in", "A new sign-in and 31 more"]

    def test_one_soon_after_others_is_sent_at_once(self, user):
        for title in ("By itself", "Joins"):
            notify(user, title)
        send_due()
        notify(user, "A new sign-in", category="security")
        send_due()
        assert subjects() == ["By itself", "A new sign-in"]

    def test_both_join_messages_of_their_own(self, user):
        for _ in range(2):
            for category in ("security", "note"):
                notify(user, category, category=category)
        send_due()
        assert sorted(subjects()) == ["note", "security"]
        pass_time(minutes=11)
        assert sorted(subjects()) == ["note", "note", "security", "security"]
