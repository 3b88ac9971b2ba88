"""Broadcasts that tests send."""

import json

import pytest
from django.contrib.auth.models import Permission

from notifications import times
from notifications.contrib.broadcasts import starting
from notifications.contrib.broadcasts.models import Broadcast
from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def sender(make_user):
    """A staff user who may send and withdraw."""
    user = make_user("sender", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=("add_notification", "withdraw_broadcast"))
    )
    return user


@pytest.fixture
def make_broadcast(sender):
    """make_broadcast(kind, *values, **fields) begins to send a broadcast and returns it."""

    def make(kind="everybody", *values, **fields):
        broadcast = Broadcast(
            **{
                "sender_id": sender.pk,
                "title": "Maintenance at 22:00",
                "level": "warning",
                "audience_kind": kind,
                "audience_values": json.dumps([str(value) for value in values]),
                "audience_text": kind,
                "recipients": 3,
                "created_at": times.now(),
                **fields,
            }
        )
        assert starting.begin_sending(broadcast, url="/sent/")
        return broadcast

    return make


@pytest.fixture
def small_chunks(monkeypatch, set_rows_per_transaction):
    """Three users are read at once, and two are notified, or two notifications withdrawn, in one transaction."""
    monkeypatch.setattr("notifications.contrib.broadcasts.sending.MAX_KEYS_READ", 3)
    set_rows_per_transaction(2)
