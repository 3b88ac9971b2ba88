"""Broadcasts: users come, go and read, workers are killed, and it is withdrawn; each recipient is notified once.

MODEL_EXAMPLES=500 python -m pytest tests/contrib/broadcasts/test_model.py    a long run
"""

import os
from itertools import count

import pytest
from django.contrib.auth.models import Group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import mark_read
from notifications.jobs import retry
from notifications.models import Job, Notification, Stream
from notifications.testing import run_jobs
from tests.support.duties import run_duty
from tests.support.statements import mortal, preceded

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "20"))
NUMBERS = count()
#: What jobs ask before each chunk, in no transaction.
ASKS_PERMISSION = "auth_user_user_permissions"


class World:
    """Users of a group, to whom a broadcast is sent. ``stayed`` are those who can be notified all the time."""

    def __init__(self, make_user, make_broadcast, withdraw, size):
        self.make_user, self.withdraw_by_page = make_user, withdraw
        self.group = Group.objects.create(name=f"group {next(NUMBERS)}")
        self.users, self.read, self.is_withdrawn = [], set(), False
        self.outsider = self.new_user()  # with the first key
        for _ in range(size):
            self.join(0)
        self.users[-1].is_active = False
        self.users[-1].save()
        self.stayed = {user.pk for user in self.users[:-1]}
        self.broadcast = make_broadcast("groups", self.group.pk)

    def new_user(self):
        return self.make_user(f"user {next(NUMBERS)}")

    def choose(self, number):
        return self.users[number % len(self.users)]

    def join(self, number):
        self.users.append(self.new_user())
        self.users[-1].groups.add(self.group)

    def join_behind(self, number):
        self.outsider.groups.add(self.group)

    def leave(self, number):
        user = self.choose(number)
        user.groups.clear()
        self.stayed.discard(user.pk)

    def toggle(self, number):
        user = self.choose(number)
        user.is_active = not user.is_active
        user.save()
        self.stayed.discard(user.pk)

    def see(self, number):
        user = self.choose(number)
        ids = list(self.notifications().filter(user=user.pk, archived_at=None).values_list("id", flat=True))
        mark_read(user, ids)
        self.read |= {*ids}

    def withdraw(self, number):
        is_first = not self.is_withdrawn
        assert self.withdraw_by_page(self.broadcast) in ((1,) if is_first else (0, 1))
        self.is_withdrawn = True
        self.sent_at_most = self.notifications().count()

    def notifications(self):
        return Notification.objects.filter(broadcast=self.broadcast.pk)

    def run(self, acts, death):
        """Run the jobs, with an act before each chunk, in a process that is killed after so many statements."""
        left = list(acts)
        with mortal() as kill, preceded(ASKS_PERMISSION, lambda: left and self.act(*left.pop(0)), times=None):
            if death:
                kill(death)
            run_jobs()
        run_duty("take jobs from lost workers")
        run_duty("number pending changes")

    def act(self, act, number):
        act(self, number)

    def compare(self):
        """Nobody has two, and the numbers are those of the rows."""
        self.broadcast.refresh_from_db()
        rows = list(self.notifications())
        users = [row.user_id for row in rows]
        assert len(users) == len(set(users)) == self.broadcast.sent
        assert set(users) <= {user.pk for user in self.users} | {self.outsider.pk}
        assert sum(row.archived_at is not None for row in rows) == self.broadcast.withdrawn
        assert not self.is_withdrawn or len(rows) <= self.sent_at_most

    def drain(self):
        """Who stayed has it, or it was withdrawn from all but those who have read it."""
        for _ in range(4):
            jobs = filter(None, (self.broadcast.job, self.broadcast.withdrawal_job))
            retry(Job.objects.filter(id__in=jobs, state="failed").values_list("id", flat=True))
            self.run([], 0)
        self.compare()
        rows = list(self.notifications())
        assert self.broadcast.state == ("withdrawn" if self.is_withdrawn else "sent")
        assert self.is_withdrawn or self.stayed <= {row.user_id for row in rows}
        for row in rows:
            assert (row.archived_at is None) == (not self.is_withdrawn or row.id in self.read)
            assert Stream.objects.get(user=row.user_id).unread == (
                not self.is_withdrawn and row.id not in self.read
            )


ACTS = [World.join, World.join_behind, World.leave, World.toggle, World.see, lambda world, number: None]
ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from([*ACTS, World.withdraw]), st.integers(0, 8)), max_size=4),
        st.sampled_from([0, 5, 10, 15, 20, 25, 30, 40, 60]),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=ROUNDS, size=st.integers(2, 7), late=st.booleans())
def test_recipients_are_notified_as_in_the_simulation(
    make_user,
    make_broadcast,
    withdraw,
    rounds,
    size,
    late,
):
    world = World(make_user, make_broadcast, withdraw, size)
    for acts, death in rounds:
        world.run(acts, death)
        world.compare()
        if late and acts:
            world.act(*acts[0])
    world.drain()
