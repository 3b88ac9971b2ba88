"""Streams: transactions overlap, roll back and die around the numbering; each change has one seq, and none is missed.

MODEL_EXAMPLES=500 python -m pytest tests/data/test_model.py --database postgres    a long run
"""

import os
from concurrent.futures import wait
from itertools import count

import pytest
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications import streams
from notifications.api import notify
from notifications.models import Notification, Stream
from tests.data import ledger
from tests.data.conftest import scalar
from tests.data.shapes import assert_consistent
from tests.support.follower import Follower
from tests.support.statements import mortal, preceded

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "20"))
NUMBERS = count()
#: The statements of one pass.
NUMBERING = (
    "INSERT INTO notifications_stream",
    "SELECT id, user_id, raised",
    "SELECT user_id, head",
    "UPDATE notifications_notification",
    "UPDATE notifications_stream",
)


class Writer:
    """A process that writes, in a transaction or without one. ``written``: what is lost if it rolls back."""

    def __init__(self, other_connection):
        self.connection = other_connection
        self.is_open, self.written = False, []

    def begin(self):
        self.connection.begin()
        self.is_open = True

    def notify(self, model, user, key, death=None):
        """In a transaction nothing is numbered before its end. A process without one may die at each statement."""

        def write():
            ids = []
            with mortal() as kill:
                if death is not None and not self.is_open:
                    kill(death)
                ids += notify([user.pk], f"note {next(NUMBERS)}", key=key)
            return ids

        ids = self.connection.do(write)
        (self.written if self.is_open else model.committed).extend(ids)

    def hold(self, user):
        """As a request that changes the row that a new one with its key replaces."""

        def lock():
            rows = Notification.objects.filter(user=user, key="k", seq__gt=0).order_by("seq")
            rows.select_for_update(skip_locked=True).last()

        self.connection.do(lock)

    def commit_during(self, model, numbering, pattern, other):
        """Commit, and number, before a statement of another process that numbers, or where its locks end."""
        is_blocked = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
        begun = []

        def start():
            begun.append(self.connection.start(self.connection.leave))
            while not wait(begun, 0.005).done and not other.do(scalar, is_blocked, self.connection.backend):
                pass

        with preceded(pattern, start):
            numbering()
        for commit in begun:
            commit.result()
            model.committed += self.written
            self.is_open, self.written = False, []

    def end(self, model, how, death):
        """Commit, perhaps as a process that dies in the numbering, or roll back."""
        if how == "roll back":
            self.connection.roll_back()
            model.rolled_back += self.written
        else:

            def commit():
                with mortal() as kill:
                    if how == "die":
                        kill(death)
                    self.connection.leave()

            self.connection.do(commit)
            model.committed += self.written
        self.is_open, self.written = False, []


class Reader:
    """A client of a user, which has read the stream from its beginning."""

    def __init__(self, user):
        self.client, self.follower = Client(), Follower()
        self.client.force_login(user)
        self.read()
        assert self.follower.cursor == 0

    def read(self):
        while True:
            follower, before = self.follower, self.follower.cursor
            position = {} if before is None else {"epoch": follower.epoch, "seq": before}
            frame = self.client.get("/notifications/api/sync/", position).json()
            assert frame["reset"] is (before is None)
            assert all(before < item["seq"] <= frame["seq"] for item in frame["items"])
            assert follower.receive(frame) == []
            if not frame["more"]:
                return

    def mark(self, verb, distance):
        up_to = max(0, self.follower.cursor - distance)
        url = f"/notifications/api/notifications/{verb}/"
        assert self.client.post(url, {"up_to": up_to}, "application/json").status_code == 200


class Streams:
    def __init__(self, make_user, connections):
        self.users = [make_user(f"user {next(NUMBERS)}") for _ in range(2)]
        self.readers = [Reader(user) for user in self.users]
        self.writers = [Writer(one) for one in connections]
        self.committed, self.rolled_back, self.raised = [], [], {}
        self.assigned = {user.pk: 0 for user in self.users}

    def act(self, act, who, which, number):
        writer, one_is_open = self.writers[who], any(one.is_open for one in self.writers)
        if connection.vendor == "sqlite" and one_is_open and not writer.is_open:
            return  # it would wait for the only lock
        death = number % 12
        match act:
            case "begin" if not writer.is_open:
                writer.begin()
            case "hold" if not one_is_open and connection.vendor == "postgresql":
                self.act("notify with key", who, which, number)
                writer.begin()
                writer.hold(self.users[which])
                self.act("leave pending", 1 - who, which, 1)
            case "commit" | "roll back" | "die" if writer.is_open:
                writer.end(self, act, death)
            case "notify" | "notify with key":
                writer.notify(self, self.users[which], "k" * (act != "notify"))
            case "notify and die":
                writer.notify(self, self.users[which], "k" * (number % 3 > 0), death)
            case "leave pending":
                if not writer.is_open:
                    writer.begin()
                writer.notify(self, self.users[which], "k" * (number % 3 > 0))
                writer.end(self, "die", number % 4)
            case "race" if not one_is_open and connection.vendor == "postgresql":
                self.act("leave pending", 1 - who, which, number)
                self.act("begin", who, which, number)
                self.act(("notify", "notify with key")[number % 2], who, which, number)
                writer.commit_during(
                    self,
                    streams.number_pending,
                    NUMBERING[number % len(NUMBERING)],
                    self.writers[1 - who].connection,
                )
            case "number" if not (connection.vendor == "sqlite" and writer.is_open):
                streams.number_pending()
            case "look" if not (connection.vendor == "sqlite" and writer.is_open):
                self.readers[which].read()
            case "read" | "unread" | "archive" | "seen" if not one_is_open:
                self.readers[which].mark(act, number % 4)

    def compare(self):
        """Each seq was assigned once, after all that were there before, and the head is the last one."""
        for user in self.users:
            seqs = ledger.assigned_seqs(user.pk)
            assert seqs == list(range(1, len(seqs) + 1))
            head = Stream.objects.filter(pk=user.pk).values_list("head", flat=True).first()
            assert (head or 0) == len(seqs) >= self.assigned[user.pk]
            self.assigned[user.pk] = len(seqs)
            of_key = Notification.objects.filter(user=user, key="k", seq__gt=0)
            assert of_key.filter(read_at=None, archived_at=None).count() <= 1
            for id, raised in Notification.objects.filter(user=user, raised__gt=0).values_list(
                "id", "raised"
            ):
                assert self.raised.setdefault(id, raised) == raised

    def end(self):
        for writer in self.writers:
            if writer.is_open:
                writer.end(self, "roll back", 0)
        streams.number_pending()
        self.compare()
        assert_consistent([user.pk for user in self.users])
        ids = set(Notification.objects.filter(user__in=self.users).values_list("id", flat=True))
        assert ids >= set(self.committed)
        assert ids.isdisjoint(self.rolled_back)
        for user, reader in zip(self.users, self.readers, strict=True):
            reader.read()
            seqs = {id: item["seq"] for id, item in reader.follower.notifications.items()}
            rows = Notification.objects.filter(user=user).values_list("id", "seq")
            assert seqs == {str(id): seq for id, seq in rows}


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("begin", "begin", "hold", "hold", "commit", "race", "race", "roll back", "die"),
                *("notify", "notify with key", "notify with key", "notify and die"),
                *("leave pending", "leave pending", "number", "look", "read", "unread", "archive", "seen"),
            ]
        ),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 100),
    ),
    min_size=10,
    max_size=25,
)


@pytest.mark.database_law
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_changes_are_numbered_once_and_read_by_all(make_user, connections, acts):
    model = Streams(make_user, connections)
    try:
        for act in acts:
            model.act(*act)
            model.compare()
    finally:
        model.end()


@pytest.fixture
def connections(open_connection):
    return [open_connection() for _ in range(2)]
