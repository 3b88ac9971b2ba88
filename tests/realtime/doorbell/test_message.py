"""What doorbells say to one another."""

import json
import uuid
from types import SimpleNamespace

import pytest
from django.db.models import CharField, UUIDField

from notifications.realtime.doorbell import message as doorbell_message
from notifications.realtime.doorbell.message import messages, read


@pytest.fixture
def keys_are(monkeypatch):
    """keys_are(field): users have keys of this kind."""

    def use(field):
        pk = SimpleNamespace(target_field=field)
        monkeypatch.setattr(doorbell_message, "Stream", SimpleNamespace(_meta=SimpleNamespace(pk=pk)))

    return use


def through(users, queue=False):
    """Users and queue as another process reads them from the wire."""
    said = [json.loads(json.dumps(message)) for message in messages("me", users, queue)]
    heard = [read(message, "you") for message in said]
    return set().union(*(users for users, _ in heard)), sum(queue for _, queue in heard)


def test_keys_come_back_as_they_were(keys_are):
    """Integers, UUIDs and texts of any alphabet: strings on the way, the key's own type after it."""
    assert through([1, 2**40]) == ({1, 2**40}, 0)
    keys_are(UUIDField())
    users = {uuid.uuid4() for _ in range(1200)}
    assert through(users, queue=True) == (users, 1)
    keys_are(CharField())
    assert through(["ada", "Жанна", '"', "7"]) == ({"ada", "Жанна", '"', "7"}, 0)


def test_messages_are_small(keys_are):
    """At most 500 users, and what NOTIFY takes, however long the keys are; one that is too long is left out."""
    assert [len(message["users"]) for message in messages("me", range(1001), False)] == [500, 500, 1]
    keys_are(CharField())
    users = [f"{number}-{'ж' * 250}" for number in range(200)]
    said = list(messages(uuid.uuid4().hex, [*users, "x" * 9000], True))
    assert max(len(json.dumps(message)) for message in said) < 8000
    assert [user for message in said for user in message["users"]] == users


def test_the_queue_alone_is_a_message():
    """Also without users, and said once where there are many."""
    assert through([], queue=True) == (set(), 1)
    assert through(range(2000), queue=True)[1] == 1


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "doorbell",
        {"type": "chat", "users": [], "queue": True},
        {"type": "doorbell"},
        {"type": "doorbell", "users": 1},
        {"type": "doorbell", "users": ["x"]},
        {"type": "doorbell", "users": [{}]},
        {"type": "doorbell", "from": "me", "users": ["1"], "queue": True},
    ],
)
def test_what_is_no_ring_of_others_is_passed_over(message):
    """Strangers on the same broker, other kinds of keys, and one's own."""
    assert read(message, "me") is None
