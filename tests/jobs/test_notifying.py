"""The signals of notify(): notification_recording inside the transaction, notification_recorded after the commit."""

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError

from notifications import streams
from notifications.api import anotify, notify
from notifications.models import Job, Notification, Stream
from notifications.signals import notification_recorded, notification_recording
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def users():
    model = get_user_model()
    return model.objects.bulk_create(model(username=f"user{number}") for number in range(250))


@pytest.fixture
def connect():
    """connect(signal, receiver) until the end of the test."""
    connected = []

    def connect_receiver(signal, receiver):
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect_receiver
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def sent(connect):
    """The signals that are sent: (name, title of the notification, whether a transaction was open, job)."""
    found = []
    for name, signal in (("recording", notification_recording), ("recorded", notification_recorded)):

        def receive(notification, sender, name=name, job="absent", **kwargs):
            assert sender is Notification
            found.append((name, notification.title, connection.in_atomic_block, job))

        connect(signal, receive)
    return found


def test_signals_outside_a_transaction(user, sent):
    notify(user, "note")
    assert sent == [("recording", "note", True, None), ("recorded", "note", False, "absent")]


def test_signals_inside_a_callers_transaction(user, sent):
    with transaction.atomic():
        notify(user, "note")
        assert sent == [("recording", "note", True, None)]
    assert sent[1:] == [("recorded", "note", False, "absent")]


def test_recorded_is_not_sent_after_a_rollback(user, sent):
    with transaction.atomic():
        notify(user, "note")
        transaction.set_rollback(True)
    assert [name for name, *_ in sent] == ["recording"]


def test_recorded_is_not_sent_after_a_savepoint_is_rolled_back(user, sent):
    with transaction.atomic():
        notify(user, "kept")
        with transaction.atomic():
            notify(user, "undone")
            transaction.set_rollback(True)
    assert [title for name, title, *_ in sent if name == "recorded"] == ["kept"]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_many_users(users, sent, in_transaction):
    """Both signals are sent for each notification, also when the users are split into chunks."""
    if in_transaction:
        with transaction.atomic():
            notify(users, "note")
    else:
        notify(users, "note")
    assert [name for name, *_ in sent].count("recording") == len(users)
    assert [name for name, *_ in sent].count("recorded") == len(users)
    assert not Notification.objects.filter(seq=None).exists()


async def test_anotify(event_loop_database, user, connect):
    """anotify() sends both signals, and receivers may be async."""
    found = []

    async def receive(notification, **kwargs):
        found.append(notification.title)

    connect(notification_recording, receive)
    connect(notification_recorded, receive)
    await anotify(user, "note")
    assert found == ["note", "note"]


def test_a_receivers_job_is_committed_with_the_notification(user, connect):
    connect(notification_recording, lambda **kwargs: tasks.add.enqueue(1, 2))
    with transaction.atomic():
        notify(user, "undone")
        transaction.set_rollback(True)
    assert not Job.objects.exists()
    notify(user, "note")
    assert (Job.objects.count(), Notification.objects.count()) == (1, 1)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_the_writes_of_a_receiver_that_raises_are_rolled_back(
    user, make_user, connect, caplog, in_transaction
):
    def receive(**kwargs):
        tasks.add.enqueue(1, 2)
        raise ValueError("broken receiver")

    connect(notification_recording, receive)
    if in_transaction:
        with transaction.atomic():
            make_user("of_the_caller")
            notify(user, "note")
    else:
        notify(user, "note")
    assert Notification.objects.get().seq == 1
    assert not Job.objects.exists()
    assert get_user_model().objects.filter(username="of_the_caller").exists() is in_transaction
    assert "Host code failed: receiver of notification_recording" in caplog.text


def test_a_query_that_fails_leaves_the_callers_transaction_usable(user, make_user, connect, caplog):
    connect(notification_recording, lambda **kwargs: Stream.objects.create(user=None))
    with transaction.atomic():
        notify(user, "note")
        make_user("of_the_caller")
    assert get_user_model().objects.filter(username="of_the_caller").exists()
    assert Notification.objects.get().title == "note"


def test_a_receiver_that_closes_the_connection_twice_is_skipped(user, connect, caplog):
    calls = []

    def close(**kwargs):
        calls.append(1)
        connection.close()

    connect(notification_recording, close)
    notify(user, "note")
    assert Notification.objects.get().seq == 1
    assert len(calls) == 2
    assert "Recorded without receivers of notification_recording: 1 notifications" in caplog.text


def test_a_receiver_that_closes_the_callers_connection_raises_an_error(user, connect):
    """Otherwise the caller's block would end as if it had been committed."""
    connect(notification_recording, lambda **kwargs: connection.close())
    with pytest.raises(TransactionManagementError, match="has ended or broken"), transaction.atomic():
        notify(user, "note")
    assert not Notification.objects.exists()


def test_a_receiver_of_recorded_that_raises_is_logged(user, connect, caplog):
    def receive(**kwargs):
        raise ValueError("broken receiver")

    connect(notification_recorded, receive)
    with transaction.atomic():
        notify(user, "note")
    assert "Host code failed: receiver of notification_recorded" in caplog.text
    assert Notification.objects.get().seq == 1


def test_a_commit_hook_of_a_receiver_that_raises_is_logged(user, connect, caplog):
    """The notification is numbered nevertheless."""

    def fail():
        raise ValueError("broken hook")

    connect(notification_recording, lambda **kwargs: transaction.on_commit(fail))
    notify(user, "first")
    with transaction.atomic():
        notify(user, "second")
    assert caplog.text.count("Host code failed: on_commit hook") == 2
    assert set(Notification.objects.values_list("seq", flat=True)) == {1, 2}


@pytest.mark.parametrize("signal", [notification_recording, notification_recorded])
def test_a_receiver_that_notifies_is_not_called_for_its_own_notification(user, connect, signal):
    calls = []

    def receive(notification, **kwargs):
        calls.append(notification.title)
        notify(user, "copy")

    connect(signal, receive)
    notify(user, "note")
    assert calls == ["note"]
    assert Notification.objects.count() == 2


def test_recorded_is_sent_once_for_a_retried_transaction(user, sent, monkeypatch):
    """After "database is locked" the transaction is run again, with the receivers of notification_recording."""
    number, failures = streams.number_in_transaction, [1]

    def fail_once(keys):
        if failures:
            failures.pop()
            raise OperationalError("database is locked")
        return number(keys)

    monkeypatch.setattr(streams, "number_in_transaction", fail_once)
    notify(user, "note")
    assert [name for name, *_ in sent] == ["recording", "recording", "recorded"]
