"""Deliveries: users, servers, staff and kills at random, and the simulation says what is sent, and what is in doubt.

MODEL_EXAMPLES=500 python -m pytest tests/contrib/deliveries/test_model.py    a long run
"""

import os
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.api import mark_read, notify
from notifications.contrib.deliveries.models import ChannelOutage, Delivery
from notifications.extension import AddressGone, Channel, Verdict
from notifications.jobs import cancel, retry
from notifications.models import ACTIVE, Job
from notifications.testing import clock, run_jobs
from tests.support.duties import run_duty
from tests.support.extensions import set_channels
from tests.support.statements import mortal

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
NUMBERS = count()
#: Time-outs in a row after which a channel is suspended, and the seconds until one message is tried, and another one.
MAX_TIMEOUTS, SUSPENSION, LONGEST_TRY = 3, timedelta(seconds=60), timedelta(seconds=150)


class RefusedError(ValueError):
    """The server does not take this message."""


#: What the server answers, and whether the message has arrived then.
ANSWERS = {
    "taken": (None, True),
    "refused": (RefusedError("no"), False),
    "dead": (LookupError("no such pager"), False),
    "gone": (AddressGone("gone"), False),
    "away": (ConnectionRefusedError("away"), False),
    "silent": (TimeoutError("no answer"), False),
    "taken in silence": (TimeoutError("no answer"), True),
}


class Pager(Channel):
    label, server = "pager", "gateway"
    world = None

    def addresses(self, user):
        return self.world.addresses

    def send(self, message):
        self.world.receive(message)

    def judge(self, error):
        is_dead = isinstance(error, LookupError)
        return Verdict(may_pass=False, is_certain=True, is_dead=True) if is_dead else None


class Sent:
    """A delivery. ``is_in_doubt``: an attempt was made that may have sent it. ``arrivals``: how often it arrived."""

    def __init__(self, row, category, *, is_muted):
        self.id, self.due_at, self.category, self.is_muted = row.id, row.due_at, category, is_muted
        self.notification, self.job, self.state, self.reason = row.notification, None, "pending", ""
        self.is_seen = self.is_read = self.is_archived = self.is_in_doubt = False
        self.arrivals = 0

    def postpone(self, until):
        self.state, self.due_at, self.job = "pending", until, None

    def skip(self, reason):
        self.state, self.reason = "skipped", reason


class World:
    """A user, a server, and what becomes of the deliveries."""

    def __init__(self, user, client):
        self.user, self.client, self.sent = user, client, {}
        self.addresses, self.dead, self.is_active, self.off = ["a"], None, True, set()
        self.paused_until, self.timeouts, self.suspended_until, self.answer = clock.now(), 0, None, "taken"

    # What people do.

    def notify(self, number):
        delay, category = [0, 100, 1_000][number % 3], ["", "news"][number % 2]
        deliver = [{"pager": clock.ahead.total_seconds() + delay}]
        [id] = notify(self.user, "note", category=category, deliver=deliver)
        is_muted, is_off = (category, "bell") in self.off, (category, "pager") in self.off
        rows = Delivery.objects.filter(notification=id)
        assert len(rows) == (not (is_muted and is_off))
        for row in rows:
            assert 0 <= (clock.now() + timedelta(seconds=delay) - row.due_at).total_seconds() < 60
            self.sent[id] = Sent(row, category, is_muted=is_muted)

    def post(self, path, **values):
        answer = self.client.post(f"/notifications/api/{path}/", values, content_type="application/json")
        assert answer.status_code == 200, answer.content

    def mark(self, path, **values):
        self.post(path, up_to=self.client.get("/notifications/api/sync/").json()["seq"], **values)

    def see(self, number):
        self.mark("notifications/seen")
        for each in self.sent.values():
            each.is_seen = True

    def read(self, number):
        each = self.choose_one(number)
        mark_read(self.user, [each.notification])
        each.is_read = True

    def archive(self, number):
        each = self.choose_one(number)
        self.mark("notifications/archive", ids=[str(each.notification)])
        each.is_archived = True

    def pause(self, number):
        before, self.paused_until = (
            self.paused_until,
            clock.now() + timedelta(seconds=[0, 200, 2_000][number % 3]),
        )
        self.post("preferences", paused_until=self.paused_until.isoformat())
        for each in self.sent.values():
            if each.state == "pending" and each.due_at == before:
                each.due_at = self.paused_until

    def switch(self, number):
        channel = ["bell", "pager"][number % 2]
        self.off ^= {("news", channel)}
        self.post(
            "preferences", categories={"news": {channel: "off" if ("news", channel) in self.off else "on"}}
        )

    def activate(self, number):
        self.is_active = number > 2
        type(self.user).objects.filter(pk=self.user.pk).update(is_active=self.is_active)

    def move(self, number):
        self.addresses = [[], ["a"], ["b"]][number % 3]

    def recover(self, number):
        """Nothing that keeps everything from being sent lasts long."""
        if not self.is_active:
            self.activate(3)
        if self.addresses in ([], [self.dead]) and number > 1:
            self.addresses = ["b"] if self.dead == "a" else ["a"]
        if self.off and number > 2:
            self.switch(0 if ("news", "bell") in self.off else 1)

    def cancel(self, number):
        if job := self.choose_one(number).job:
            cancel([job])

    def retry(self, number):
        if job := self.choose_one(number).job:
            retry([job])

    def choose_one(self, number):
        return list(self.sent.values())[number % len(self.sent)]

    # What becomes of them.

    def find_reason(self, each, *, addresses):
        reasons = {
            "archived": each.is_archived,
            "read": each.is_read and not each.is_muted,
            "seen": each.is_seen,
            "off": (each.category, "pager") in self.off,
            "inactive": not self.is_active,
            "no-address": addresses == [],
            "dead-address": addresses == [self.dead],
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def waits_for_pause(self, each):
        return self.paused_until > clock.now() and not each.is_in_doubt

    def is_suspended(self):
        return self.suspended_until is not None and self.suspended_until > clock.now()

    def enqueue_due(self, death):
        """Do the duty, in a process that may be killed after so many statements: it does all or nothing."""
        now = clock.now()
        due = [each for each in self.sent.values() if each.state == "pending" and each.due_at <= now]
        rows = Delivery.objects.filter(id__in=[each.id for each in due])
        before = list(rows.values())
        with mortal() as kill:
            if death:
                kill(death)
            run_duty("enqueue deliveries by pager")
        if death and list(rows.values()) == before:
            return
        jobs = dict(rows.values_list("id", "job"))
        places = len(due) if self.suspended_until is None else not self.is_suspended()
        for each in sorted(due, key=lambda each: each.id):
            if reason := self.find_reason(each, addresses=None):
                each.skip(reason)
            elif self.waits_for_pause(each):
                each.due_at = self.paused_until
            elif places:
                places -= 1
                each.state, each.job = "queued", jobs[each.id]
            else:
                each.due_at = max(self.suspended_until, now + SUSPENSION)

    def run(self, death):
        """Run the jobs that are due, in a process that is killed, or frozen past its lease, with its first message."""
        now = clock.now()
        jobs = {job.id for job in Job.objects.filter(state="queued") if (job.due_at or now) <= now}
        self.waiting = {each for each in self.sent.values() if each.job in jobs}
        self.death, self.was_suspended = death, self.is_suspended()
        self.may_try = not self.was_suspended
        if self.suspended_until and self.may_try and self.waiting:  # by the first one
            self.suspended_until, self.was_suspended = now + LONGEST_TRY, True
        with mortal() as self.kill:
            run_jobs()
        rows = Delivery.objects.in_bulk([each.id for each in self.waiting])
        for each in self.waiting:
            state = rows[each.id].state
            if each.state not in ("queued", "failed") or (death and state == each.state):
                pass
            elif self.was_suspended and state == "pending":
                each.postpone(now)
            elif reason := self.find_reason(each, addresses=self.addresses):
                each.skip(reason)
            else:
                assert self.waits_for_pause(each), "It was not sent."
                each.postpone(self.paused_until)

    def receive(self, message):
        """Get a message, which may be sent now, and answer it."""
        each = self.sent[message.notifications[0].id]
        assert each.state in ("queued", "failed") and not self.find_reason(each, addresses=self.addresses)
        assert not self.waits_for_pause(each) and self.may_try
        assert (message.id, message.address) == (each.id, self.addresses[0])
        self.may_try = self.suspended_until is None
        was_in_doubt, each.is_in_doubt, each.state = each.is_in_doubt, True, "queued"
        death, self.death = self.death, None
        error, arrives = ANSWERS[self.answer]
        self.waiting.discard(each)
        if death == "killed before":
            return self.kill()
        each.arrivals += arrives
        if death == "killed":
            return self.kill()
        if death == "frozen":  # Another attempt begins.
            run_duty("take jobs from lost workers")
            self.waiting.add(each)
        self.record(each, was_in_doubt)
        if error:
            raise error

    def record(self, each, was_in_doubt):
        if "silen" in self.answer:
            self.timeouts += 1
            if self.timeouts >= MAX_TIMEOUTS:
                self.suspended_until, self.may_try, self.was_suspended = clock.now() + SUSPENSION, False, True
                each.postpone(clock.now())
            return
        self.timeouts, self.suspended_until, self.may_try = 0, None, True
        if self.answer == "taken":
            each.state = "sent"
            return
        each.is_in_doubt = was_in_doubt
        if self.answer == "gone":
            each.skip("gone")
        elif self.answer != "away":
            each.state = "failed"
            self.dead = self.addresses[0] if self.answer == "dead" else self.dead

    def maintain(self):
        run_duty("take jobs from lost workers")
        run_duty("fail abandoned deliveries")
        active = set(Job.objects.filter(state__in=ACTIVE).values_list("id", flat=True))
        for each in self.sent.values():
            if each.state == "queued" and each.job not in active:
                each.state = "failed"

    def compare(self):
        rows = Delivery.objects.in_bulk([each.id for each in self.sent.values()])
        for each in self.sent.values():
            row = rows[each.id]
            assert (row.state, row.reason, row.job) == (each.state, each.reason, each.job)
            assert each.state == "sent" or (row.attempted_at is not None) == each.is_in_doubt
            assert each.state == "sent" or each.is_in_doubt or not each.arrivals
            assert (row.ended_at is None) == (each.state in ("pending", "queued"))

    def drain(self):
        """Each ends."""
        self.answer, self.addresses = "taken", ["c"]
        self.activate(3), self.pause(0)
        for _ in range(20):
            if {each.state for each in self.sent.values()} <= {"sent", "skipped", "failed"}:
                return
            clock.advance(4_000)
            self.maintain(), self.enqueue_due(0), self.run(None), self.compare()
        raise AssertionError("A delivery has not ended.")


ACTS = [*[World.notify] * 4, World.see, World.read, World.archive, *[World.pause] * 3, *[World.switch] * 2]
ACTS += [World.activate, World.move, World.cancel, *[World.retry] * 4]
OFTEN = ["taken", "taken", "away", "silent", "silent", "taken in silence", "refused"]
#: The seconds that pass, who does what, how the server answers then, and how the worker ends.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 100, 100, 2_000]),
        st.sampled_from(ACTS),
        st.integers(0, 5),
        st.sampled_from([*OFTEN, *ANSWERS]),
        st.sampled_from([None, None, None, "killed before", "killed", "frozen"]),
    ),
    min_size=8,
    max_size=12,
)


@pytest.mark.database_law
@pytest.mark.nightly
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_deliveries_are_sent_as_in_the_simulation(make_user, client_of, configure, monkeypatch, steps):
    configure([])
    set_channels(monkeypatch, pager=f"{__name__}.Pager")
    ChannelOutage.objects.all().delete()
    user = make_user(f"user {next(NUMBERS)}")
    Pager.world = world = World(user, client_of(user))
    try:
        for number in range(3):
            world.notify(number)
        for seconds, act, number, world.answer, death in steps:
            clock.advance(seconds)
            world.recover(number)
            act(world, number)
            world.compare()
            world.enqueue_due(death and number + 1)
            world.compare()
            world.run(death)
            world.compare()
            if death or act is World.cancel:
                world.maintain()
                world.compare()
        world.drain()
    finally:
        clock.reset()
