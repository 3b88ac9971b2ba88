"""A project that commits by itself: ``AUTOCOMMIT = False``, or autocommit turned off for a while.

On SQLite Django commits at the end of each atomic block then: its savepoint is the transaction.
"""

import threading

import pytest
from django.db import connection, connections, transaction

from notifications import streams
from notifications.api import notify
from notifications.jobs import host_code
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from notifications.streams import changes, inbox
from notifications.streams.marking_seen import mark_seen
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def by_itself(user, monkeypatch):
    """AUTOCOMMIT = False: new connections have it off, and nothing turns it on."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    yield
    connection.close()
    monkeypatch.undo()
    connection.close()


def elsewhere(work):
    """What another thread of the app's finds, on a connection of its own."""
    found = []

    def run():
        found.append(work())
        connections.close_all()

    thread = threading.Thread(target=run, name="notifications-test")
    thread.start()
    thread.join()
    return found[0]


def test_jobs_and_notifications_are_in_the_transaction(by_itself, user):
    """Nobody sees them before the commit; then each process that looks numbers them and runs them."""
    tasks.noop.using(owner=user).enqueue()
    tasks.noop.using(owner=user, key="once").enqueue()
    notify(user, "Hello")
    if connection.vendor == "postgresql":
        assert elsewhere(lambda: Job.objects.count() + Notification.objects.count()) == 0
    transaction.commit()
    assert elsewhere(Job.objects.count) == 2
    elsewhere(streams.number_pending)
    assert elsewhere(lambda: changes.position(user.pk).unread) == 1
    if connection.vendor == "postgresql":
        tasks.noop.using(owner=user).enqueue()
        notify(user, "Never")
        transaction.rollback()
    assert (Job.objects.count(), Notification.objects.count()) == (2, 1)


def test_changes_are_in_the_transaction(by_itself, user):
    """Marking and cancelling take part in it, as nothing tells of its end."""
    notify(user, "Hello")
    job = tasks.noop.using(owner=user).enqueue()
    transaction.commit()
    elsewhere(streams.number_pending)
    mark_seen(user.pk, 1)
    inbox.mark(user.pk, "read", 1)
    manual.cancel([job.id], by=user.pk)
    if connection.vendor == "postgresql":
        assert elsewhere(Notification.objects.filter(read_at=None).count) == 1
    transaction.commit()
    assert elsewhere(Notification.objects.filter(read_at=None).count) == 0
    assert elsewhere(lambda: changes.position(user.pk).seen) == 1
    assert elsewhere(Job.objects.get).state == "cancelled"
    assert connection.run_on_commit == []


def test_threads_of_the_app_commit(by_itself, user):
    """A worker's, say."""
    job = tasks.noop.using(owner=user).enqueue()
    transaction.commit()
    elsewhere(run_jobs)
    transaction.commit()
    wait_until(lambda: Job.objects.get(pk=job.id).state == "succeeded", what="the job to be done")


def test_receivers_on_threads_of_the_app_leave_nothing_open(by_itself, caplog):
    """Autocommit, which is on there, is none of their doing."""
    assert elsewhere(lambda: host_code.call("receiver", Job.objects.count)) == 0
    assert "Host code left a transaction open" not in caplog.text


def test_jobs_of_handlers_are_in_the_transaction(by_itself, user, settings):
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "HANDLERS": {
            "notification.created": ["tests.jobs.tasks.echo"],
            "job.cancelled": ["tests.jobs.tasks.echo"],
        },
    }
    job = tasks.noop.using(owner=user).enqueue()
    transaction.commit()
    notify(user, "Hello")
    manual.cancel([job.id])
    if connection.vendor == "postgresql":
        assert elsewhere(Job.objects.count) == 1
    transaction.commit()
    # Of both notifications, that of the cancellation included, and of the cancellation.
    assert elsewhere(Job.objects.filter(task_path="tests.jobs.tasks.echo").count) == 3


def test_autocommit_off_for_a_while(user):
    """What is put off to the commit comes when autocommit is on again; a rollback takes it along."""
    transaction.set_autocommit(False)
    try:
        if connection.vendor == "postgresql":
            notify(user, "Never")
            transaction.rollback()
        notify(user, "Hello")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    row = Notification.objects.get()
    assert (row.title, row.seq) == ("Hello", 1)
