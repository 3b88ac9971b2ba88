"""A broadcast is sent by a job, in chunks, to each recipient once, also if it is interrupted."""

import pytest
from django.contrib.auth.models import Permission
from django.db import OperationalError

from notifications.contrib.broadcasts import sending, starting, withdrawal
from notifications.contrib.broadcasts.models import Broadcast
from notifications.jobs import notifying, outcomes, retry
from notifications.jobs.results import policy_at
from notifications.models import Job, Notification, Stream
from notifications.signals import notification_recorded
from notifications.testing import run_jobs, run_until_idle
from tests.support.lost_rights import RIGHTS, lose_right

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def small_chunks(monkeypatch):
    """Three users are read at once, and two are notified in one transaction."""
    monkeypatch.setattr(sending, "MAX_KEYS_READ", 3)
    monkeypatch.setattr(notifying, "MAX_ROWS_PER_TRANSACTION", 2)


@pytest.fixture
def users(make_user):
    """Seven users, and one who is inactive."""
    users = [make_user(f"user{number}") for number in range(7)]
    make_user("gone", is_active=False)
    return users


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


@pytest.mark.parametrize("is_committed", [False, True], ids=["before a commit", "after a commit"])
def test_interrupted_sending_continues(users, make_broadcast, small_chunks, monkeypatch, is_committed):
    """An attempt that ends before or after the commit of a chunk is followed by one that notifies the others."""
    create, calls = sending.create_chunk, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2 and not is_committed:
            raise OperationalError("The connection is lost.")
        created = create(*args, **kwargs)
        if len(calls) == 2:
            raise OperationalError("The connection is lost.")
        return created

    monkeypatch.setattr(sending, "create_chunk", interrupted)
    broadcast = make_broadcast()
    run_until_idle(raise_errors=False)
    assert Job.objects.get().attempt == 2
    assert len(recipients(broadcast)) == len(set(recipients(broadcast))) == 8
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sent", 8)


def test_attempt_beside_another_one_notifies_nobody_twice(users, make_broadcast, small_chunks, monkeypatch):
    """A worker that was taken for lost continues after the one that replaced it has sent a chunk."""
    send_chunk, is_nested = sending._send_chunk, []

    def overtaken(row, keys):
        if not is_nested:
            is_nested.append(True)
            other = Broadcast.objects.get(pk=row.pk)
            assert send_chunk(other, keys)  # by the other attempt
        return send_chunk(row, keys)

    monkeypatch.setattr(sending, "_send_chunk", overtaken)
    broadcast = make_broadcast()
    run_jobs(raise_errors=True)
    assert is_nested and len(recipients(broadcast)) == len(set(recipients(broadcast))) == 8
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sent", 8)


def test_failed_sending_continues_when_it_is_retried(users, make_broadcast, small_chunks, monkeypatch):
    send_chunk, calls = sending._send_chunk, []

    def failing(row, keys):
        calls.append(keys)
        if len(calls) == 2:
            raise sending.JobError("It stops here.")
        return send_chunk(row, keys)

    monkeypatch.setattr(sending, "_send_chunk", failing)
    broadcast = make_broadcast()
    run_jobs()
    assert Job.objects.get().state == "failed" and len(recipients(broadcast)) == 2
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sending", 2)
    retry([broadcast.job])
    run_jobs()
    assert len(recipients(broadcast)) == len(set(recipients(broadcast))) == 8


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


@pytest.mark.parametrize("task", [sending.send_broadcast, withdrawal.withdraw_broadcast])
def test_job_that_takes_too_long_is_not_started_again(task):
    """Its thread may still run."""
    policy = policy_at(task.module_path)
    assert outcomes.timed_out(Job(attempt=1, max_attempts=5), policy).state == "failed"
    assert outcomes.failed(Job(attempt=1, max_attempts=5), policy, OperationalError("away")).state != "failed"


def test_permission_is_checked_when_the_job_begins(users, sender, make_broadcast):
    broadcast = make_broadcast()
    sender.user_permissions.clear()
    run_jobs()
    assert Job.objects.get().state == "failed" and recipients(broadcast) == []


@pytest.mark.parametrize("right", RIGHTS)
def test_right_that_is_lost_stops_it_before_the_next_chunk(
    users, sender, make_broadcast, small_chunks, monkeypatch, right
):
    """Retried after the right was given back it notifies the others, each once."""
    send_chunk = sending._send_chunk

    def send_and_lose_right(row, keys):
        lose_right(sender, right)
        return send_chunk(row, keys)

    broadcast = make_broadcast()
    with monkeypatch.context() as patched:
        patched.setattr(sending, "_send_chunk", send_and_lose_right)
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


def test_audience_that_has_become_empty(users, make_broadcast):
    broadcast = make_broadcast("users", users[0].pk)
    type(users[0]).objects.filter(pk=users[0].pk).update(is_active=False)
    run_jobs(raise_errors=True)
    broadcast.refresh_from_db()
    assert (broadcast.state, broadcast.sent) == ("sent", 0)
