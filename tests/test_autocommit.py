"""Autocommit turned off for a while is supported, a project with ``AUTOCOMMIT = False`` is refused."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from notifications.api import notify
from notifications.jobs import cancel
from notifications.models import Notification
from notifications.streams import marking
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def manual_commits(user, monkeypatch):
    """AUTOCOMMIT = False: new connections have it off, and nothing turns it on."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    yield
    connection.close()
    monkeypatch.undo()
    connection.close()


@pytest.mark.parametrize(
    "work",
    [
        lambda user: notify(user, "Hello"),
        lambda user: tasks.noop.using(owner=user).enqueue(),
        lambda user: marking.mark(user.pk, "read", 0),
        lambda user: cancel([]),
    ],
    ids=["notify", "enqueue", "mark", "cancel"],
)
@pytest.mark.parametrize("is_atomic", [False, True])
def test_manual_commits_are_refused(manual_commits, user, work, is_atomic):
    """With the remedy, also inside an atomic block, which such a project commits later."""
    message = r"DATABASES\['default'\]\['AUTOCOMMIT'\] is False, .* use ATOMIC_REQUESTS or transaction.atomic"
    with pytest.raises(ImproperlyConfigured, match=message):
        if is_atomic:
            with transaction.atomic():
                work(user)
        else:
            work(user)
    transaction.rollback()
    assert not Notification.objects.exists()


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
