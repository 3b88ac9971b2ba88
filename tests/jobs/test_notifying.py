"""The signal of notify(): notification_recorded, after the commit. Handlers are tested in handlers/."""

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction

from notifications.api import anotify, notify
from notifications.models import Notification
from notifications.signals import notification_recorded
from tests.support.statements import preceded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


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
    """The signals that are sent: (title of the notification, whether a transaction was open)."""
    found = []

    def receive(notification, sender, **kwargs):
        assert sender is Notification
        found.append((notification.title, connection.in_atomic_block))

    connect(notification_recorded, receive)
    return found


def test_signals_outside_a_transaction(user, sent):
    notify(user, "note")
    assert sent == [("note", False)]


def test_signals_inside_a_callers_transaction(user, sent):
    with transaction.atomic():
        notify(user, "note")
        assert sent == []
    assert sent == [("note", False)]


def test_recorded_is_not_sent_after_a_rollback(user, sent):
    with transaction.atomic():
        notify(user, "note")
        transaction.set_rollback(True)
    assert sent == []


def test_recorded_is_not_sent_after_a_savepoint_is_rolled_back(user, sent):
    with transaction.atomic():
        notify(user, "kept")
        with transaction.atomic():
            notify(user, "undone")
            transaction.set_rollback(True)
    assert [title for title, _ in sent] == ["kept"]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_many_users(users, sent, in_transaction):
    """It is sent for each notification, also when the users are split into chunks."""
    if in_transaction:
        with transaction.atomic():
            notify(users, "note")
    else:
        notify(users, "note")
    assert len(sent) == len(users)
    assert not Notification.objects.filter(seq=None).exists()


async def test_anotify(event_loop_database, user, connect):
    """anotify() sends it too, and receivers may be async."""
    found = []

    async def receive(notification, **kwargs):
        found.append(notification.title)

    connect(notification_recorded, receive)
    await anotify(user, "note")
    assert found == ["note"]


def test_a_receiver_of_recorded_that_raises_is_logged(user, connect, caplog):
    def receive(**kwargs):
        raise ValueError("broken receiver")

    connect(notification_recorded, receive)
    with transaction.atomic():
        notify(user, "note")
    assert "Host code failed: receiver of notification_recorded" in caplog.text
    assert Notification.objects.get().seq == 1


def test_a_receiver_that_notifies_is_not_called_for_its_own_notification(user, connect):
    calls = []

    def receive(notification, **kwargs):
        calls.append(notification.title)
        notify(user, "copy")

    connect(notification_recorded, receive)
    notify(user, "note")
    assert calls == ["note"]
    assert Notification.objects.count() == 2


def test_recorded_is_sent_once_for_a_retried_transaction(user, sent):
    """After "database is locked" the transaction is run again."""

    def fail():
        raise OperationalError("database is locked")

    with preceded("UPDATE notifications_stream", fail) as failures:
        notify(user, "note")
    assert failures and len(sent) == 1
