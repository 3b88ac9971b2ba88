"""A broadcast is sent by a job, in chunks, to each recipient once, also if it is interrupted."""

import pytest
from django.contrib.auth.models import Permission
from django.db import OperationalError

from notifications.contrib.broadcasts import sending, starting
from notifications.contrib.broadcasts.models import Broadcast
from notifications.jobs import retry
from notifications.models import Job, Notification, Stream
from notifications.signals import notification_recorded
from notifications.testing import run_jobs
from tests.support.lost_rights import RIGHTS, lose_right
from tests.support.statements import preceded, refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


#: What the job asks before each chunk, and what it writes first in its transaction.
ASKS_PERMISSION = "auth_user_user_permissions"
MOVES_POSITION = 'UPDATE "notifications_broadcasts_broadcast" SET "position"'
ENDS = 'UPDATE "notifications_broadcasts_broadcast" SET "state"'


@pytest.fixture
def users(make_user):
    """Seven users, and one who is inactive."""
    users = [make_user(f"user{number}") for number in range(7)]
    make_user("gone", is_active=False)
    return users


def at_second(action):
    """Return a function that does something when it is called for the second time."""
    calls = []
    return lambda: calls.append(1) or (len(calls) == 2 and action())


def raise_error(error):
    raise error


def recipients(broadcast):
    return sorted(Notification.objects.filter(broadcast=broadcast.pk).values_list("user_id", flat=True))


def test_everybody_is_notified_once(users, sender, make_broadcast, small_chunks):
    """With all fields, numbered, and counted as unread. The sender is notified of the end of the job."""
    broadcast = make_broadcast(body="For an hour.", url="/status/", category="ops", recipients=8)
    run_jobs(raise_errors=True)
    assert recipients(broadcast) == sorted(user.pk for user in [*users, sender])
    note = Notification.objects.get(user=users[0])
    assert (note.title, note.body, note.url) == ("Maintenance at 22:00", "For an hour.", "/status/")
    assert (note.level, note.category, note.job) == ("warning", "ops", None)
    assert (note.seq, note.raised, note.counted) == (1, 1, True)
    assert Stream.objects.get(user=users[0]).unread == 1
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sent", 8) and broadcast.sent_at
    job = Job.objects.get()
    assert (job.title, job.user_id) == ("Send “Maintenance at 22:00”", sender.pk)
    assert (job.progress_current, job.progress_total) == (8, 8)
    end = Notification.objects.get(user=sender, broadcast=None)
    assert (end.title, end.body) == ("Send “Maintenance at 22:00”", "8 users were notified.")
    assert end.url == "/sent/"


def test_attempt_beside_another_one_notifies_nobody_twice(users, make_broadcast, small_chunks):
    """A worker that was taken for lost continues after the one that replaced it has sent a chunk."""
    broadcast = make_broadcast()

    def send_chunk():  # by the other attempt
        assert sending._send_chunk(
            Broadcast.objects.get(pk=broadcast.pk), sorted(user.pk for user in users)[:2]
        )

    with preceded(ASKS_PERMISSION, send_chunk) as overtaken:
        run_jobs(raise_errors=True)
    assert overtaken and len(recipients(broadcast)) == len(set(recipients(broadcast))) == 8
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sent", 8)


def test_an_attempt_beside_another_one_does_not_end_the_sending(users, make_broadcast, make_user):
    """A worker that was taken for lost has found nobody left; then the one that replaced it notifies a new user."""
    broadcast = make_broadcast()

    def send_chunk():  # by the other attempt
        assert sending._send_chunk(Broadcast.objects.get(pk=broadcast.pk), [make_user("new").pk])

    with preceded(ENDS, send_chunk) as overtaken:
        run_jobs(raise_errors=True)
    broadcast.refresh_from_db()
    assert overtaken and (broadcast.state, broadcast.sent) == ("sending", 9)


def test_receivers_are_called_for_each_recipient(users, make_broadcast, small_chunks):
    """As for notify(). One that raises costs no notification."""
    recorded = []

    def follow(notification, **kwargs):
        recorded.append(notification.user_id)
        raise ValueError("A receiver of the project fails.")

    notification_recorded.connect(follow)
    try:
        broadcast = make_broadcast()
        run_jobs()
    finally:
        notification_recorded.disconnect(follow)
    sent = recipients(broadcast)
    assert sorted(set(recorded)) == sent


@pytest.mark.parametrize(("error", "state"), [(TimeoutError, "failed"), (OperationalError, "queued")])
def test_job_that_takes_too_long_is_not_started_again(users, make_broadcast, withdraw, error, state):
    """Its thread may still run. One whose database is away is, for both tasks."""
    broadcast = make_broadcast()
    with refused(MOVES_POSITION, error=error):
        run_jobs()
    assert Job.objects.get().state == state
    withdraw(broadcast)
    broadcast.refresh_from_db()
    with refused('SET "state" = ', error=error):
        run_jobs()
    assert Job.objects.get(pk=broadcast.withdrawal_job).state == state


def test_permission_is_checked_when_the_job_begins(users, sender, make_broadcast):
    broadcast = make_broadcast()
    sender.user_permissions.clear()
    run_jobs()
    assert Job.objects.get().state == "failed" and recipients(broadcast) == []


@pytest.mark.parametrize("right", RIGHTS)
def test_right_that_is_lost_stops_it_before_the_next_chunk(
    users, sender, make_broadcast, small_chunks, right
):
    """Retried after the right was given back it notifies the others, each once."""
    broadcast = make_broadcast()
    with preceded(MOVES_POSITION, lambda: lose_right(sender, right)):
        run_jobs()
    assert Job.objects.get().state == "failed" and len(recipients(broadcast)) == 2
    type(sender).objects.filter(pk=sender.pk).update(is_staff=True, is_active=True)
    sender.user_permissions.add(Permission.objects.get(codename="add_notification"))
    retry([broadcast.job])
    run_jobs()
    assert len(recipients(broadcast)) == len(set(recipients(broadcast))) == 8


def test_form_that_is_sent_twice_is_one_broadcast(users, make_broadcast):
    """The second one enqueues nothing and changes nothing."""
    broadcast = make_broadcast()
    again = Broadcast.objects.get(pk=broadcast.pk)
    again.title = "Changed"
    assert not starting.begin_sending(again, url="/")
    assert Job.objects.count() == 1 and Broadcast.objects.get().title == "Maintenance at 22:00"
