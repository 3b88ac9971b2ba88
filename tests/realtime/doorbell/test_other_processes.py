"""The messages between doorbells."""

import json
import uuid
from types import SimpleNamespace

import pytest
from django.db.models import CharField, UUIDField

from notifications.realtime.doorbell import other_processes as doorbell_message
from notifications.realtime.doorbell.other_processes import (
    build_messages,
    encode_message,
    parse_change,
    parse_message,
)


@pytest.fixture
def set_key_field(monkeypatch):
    """set_key_field(field): users have keys of this type."""

    def patch(field):
        pk = SimpleNamespace(target_field=field)
        monkeypatch.setattr(doorbell_message, "Stream", SimpleNamespace(_meta=SimpleNamespace(pk=pk)))

    return patch


def round_trip(users, queue=False):
    """Return the users and the number of queue flags that another process receives."""
    sent = [json.loads(json.dumps(message)) for message in build_messages("me", users, queue)]
    received = [parse_message(message, "you") for message in sent]
    return set().union(*(users for users, _ in received)), sum(queue for _, queue in received)


def test_keys_keep_their_type(set_key_field):
    """Keys that are integers, UUIDs or any text keep their type, although messages contain strings."""
    assert round_trip([1, 2**40]) == ({1, 2**40}, 0)
    set_key_field(UUIDField())
    users = {uuid.uuid4() for _ in range(1200)}
    assert round_trip(users, queue=True) == (users, 1)
    set_key_field(CharField())
    assert round_trip(["ada", "Жанна", '"', "7"]) == ({"ada", "Жанна", '"', "7"}, 0)


def test_messages_are_small(set_key_field):
    """A message has at most 500 users and fits NOTIFY's 8,000 bytes. A key that is too long is left out."""
    assert [len(message["users"]) for message in build_messages("me", range(1001), False)] == [500, 500, 1]
    set_key_field(CharField())
    users = [f"{number}-{'ж' * 250}" for number in range(200)]
    sent = list(build_messages(uuid.uuid4().hex, [*users, "x" * 9000], True))
    assert max(len(encode_message(message).encode()) for message in sent) < 8000
    assert [user for message in sent for user in message["users"]] == users


def receive(message):
    """Return the users that another process receives, with what is carried of each."""
    users, _ = parse_message(json.loads(encode_message(message)), "you")
    return users


class TestCarriedChanges:
    [CHANGE] = parse_change('e1,0,1,2,3,4\n{"title":"Жанна 🎉 \\"\\\\\\n"}')

    def test_round_trip(self):
        """Of users of whom a ring carries something, their changes in order; the others must be read."""
        later = self.CHANGE._replace(prev=2, seq=3)
        changes = {7: (self.CHANGE, later), 8: (self.CHANGE,)}
        [message] = build_messages("me", [7, 8, 9], False, changes)
        assert message["users"] == ["9"]
        assert receive(message) == {**changes, 9: ()}

    def test_messages_are_small(self):
        """A change that does not fit NOTIFY's 8,000 bytes with its quotes is not carried, and rings all the same."""
        fits = self.CHANGE._replace(items="ж" * 3500)
        changes = {1: (fits,), 2: (self.CHANGE._replace(items='"' * 5000),), 3: (fits,), 4: (fits, fits)}
        messages = list(build_messages("me", changes, True, changes))
        assert max(len(encode_message(message).encode()) for message in messages) < 8000
        received = {user: found for message in messages for user, found in receive(message).items()}
        assert received == {1: (fits,), 2: (), 3: (fits,), 4: ()}

    def test_change_that_this_site_has_not_signed_is_not_taken(self, settings):
        """Any role of the database can send messages: the user is read."""
        [message] = build_messages("me", [7], False, {7: (self.CHANGE,)})
        [[user, text, signature]] = message["changes"]
        for forged in (
            ["8", text, signature],
            [user, text.replace("Жанна", "x"), signature],
            [user, text, ""],
        ):
            assert receive(message | {"changes": [forged]}) == {int(forged[0]): ()}
        settings.SECRET_KEY = "another"
        assert receive(message) == {7: ()}

    @pytest.mark.parametrize(
        "changes", [{}, "x", [1], [[]], [["x", "", ""]], [["7", "", "", ""]], [["7", 1, 2]], [["7", "", "ä"]]]
    )
    def test_others_are_ignored(self, changes):
        message = {"type": "doorbell", "from": "me", "users": [], "queue": False, "changes": changes}
        assert parse_message(message, "you") in (None, ({7: ()}, False), ({}, False))


def test_queue_flag_is_sent_once():
    """The queue flag is sent also without users, and in only one of several messages."""
    assert round_trip([], queue=True) == (set(), 1)
    assert round_trip(range(2000), queue=True)[1] == 1


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
def test_other_messages_are_ignored(message):
    """Invalid messages, keys of another type, and messages of this process are ignored."""
    assert parse_message(message, "me") is None


def test_messages_of_the_layer_have_its_type():
    """Messages have a type, by which Channels consumers dispatch."""
    assert next(build_messages("me", [1], False))["type"] == "doorbell"
