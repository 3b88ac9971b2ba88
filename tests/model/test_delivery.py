"""Whatever happens to rows, rings, server and network: what every client holds converges to the rows.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import json
import os

import pytest
from django.contrib.auth import get_user_model
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from notifications import serializers, streams
from notifications.models import Job, Notification, Stream
from notifications.realtime import hub
from notifications.signals import rung
from tests.model import rows
from tests.model.device import Device
from tests.model.loop import Answers, FakeLoop

pytestmark = pytest.mark.database_law

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "50"))
STEPS = 40
#: Seconds within which everybody knows everything once nothing happens any more.
DELIVERY_TIMEOUT_SECONDS = 70

devices = st.integers(0, 3)
whose = st.integers(1, 3)  # bits: the first user, the second, both
rings = st.sampled_from(["heard", "heard", "lost", "doubled", "late"])


class Delivery(RuleBasedStateMachine):
    """Two users, three browsers of the first and one of the second, one server."""

    numbers = 0

    def __init__(self):
        super().__init__()
        self.loop = FakeLoop()
        self.fate = "heard"
        self.late = []
        rung.connect(self.ring)

    @initialize(delay=st.sampled_from([0.0, 0.02, 0.7]))
    def begin(self, delay):
        Answers.delay = delay
        Delivery.numbers += 1
        create = get_user_model().objects.create_user
        self.users = [create(f"model{Delivery.numbers}-{nth}") for nth in range(2)]
        self.devices = [Device(self.loop, self.users[nth // 3]) for nth in range(4)]
        rows.write(self.users, 3, "", "committed")
        self.backup = rows.back_up(self.users)
        self.come_to_rest()

    def ring(self, sender, users, **kwargs):
        """A ring of a commit meets the fate that the rule has chosen."""
        times = {"heard": 1, "doubled": 2}.get(self.fate, 0)
        for _ in range(times):
            self.hear(frozenset(users))
        if self.fate == "late":
            self.late.append(frozenset(users))

    def hear(self, users):
        for heard in tuple(listeners):
            heard(users, False)

    # What happens to the rows

    @rule(bits=whose, count=st.integers(1, 4), key=st.sampled_from(["", "", "k"]), ring=rings)
    def write(self, bits, count, key, ring):
        self.change(ring, rows.write, self.some(bits), count, key, "committed")

    @rule(bits=whose, count=st.integers(1, 4), key=st.sampled_from(["", "k"]))
    def kill_between_commit_and_numbering(self, bits, count, key):
        self.change("lost", rows.write, self.some(bits), count, key, "killed")

    @rule(bits=whose)
    def roll_back(self, bits):
        self.change("heard", rows.write, self.some(bits), 1, "", "rolled back")

    @rule(
        bits=whose,
        verb=st.sampled_from(["read", "unread", "archive", "unarchive"]),
        back=st.integers(0, 3),
        ring=rings,
    )
    def mark(self, bits, verb, back, ring):
        for user in self.some(bits):
            self.mark_up_to(user, verb, back, ring)

    @rule(ring=rings)
    def ask_for_a_job(self, ring):
        self.change(ring, rows.ask, self.users[0])

    @rule(
        nth=st.integers(0, 5),
        how=st.sampled_from(["report", "give back", "fail", "finish", "retry"]),
        ring=rings,
    )
    def work(self, nth, how, ring):
        jobs = list(Job.objects.filter(user=self.users[0]).order_by("id"))
        if jobs:
            self.change(ring, rows.work, jobs[nth % len(jobs)], how)

    @rule(archive=st.booleans())
    def prune(self, archive):
        """Delete what is done with, and before it perhaps say that all is."""
        for user in self.users if archive else ():
            self.mark_up_to(user, "archive", 0, "heard")
        self.change("heard", rows.prune)

    @rule()
    def back_up(self):
        self.backup = rows.back_up(self.users)

    @rule(ring=rings)
    def restore(self, ring):
        self.change(ring, rows.restore, self.users, self.backup)

    # What happens on the way

    @rule(nth=devices)
    def connect(self, nth):
        self.devices[nth].connect()
        self.loop.settle()

    @rule(nth=devices)
    def cut(self, nth):
        self.devices[nth].cut()

    @rule(nth=devices, count=st.integers(1, 30))
    def exchange(self, nth, count):
        self.devices[nth].exchange(count)
        self.loop.settle()

    @rule(nth=devices, frame=st.integers(0, 7))
    def come_again(self, nth, frame):
        self.devices[nth].again(frame)

    @rule(nth=devices)
    def ask_over_http(self, nth):
        self.devices[nth].ask()

    @rule(nth=devices)
    def hear_over_http(self, nth):
        self.devices[nth].hear_answer()

    @rule(nth=devices)
    def ping(self, nth):
        device = self.devices[nth]
        if device.line:
            device.line.up.append({"op": "ping"})

    @precondition(lambda self: self.late)
    @rule()
    def ring_late(self):
        for users in self.late:
            self.hear(users)
        self.late.clear()
        self.loop.settle()

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.5, 1, 5, 31, 61]))
    def pass_time(self, seconds):
        self.fate = "heard"
        self.loop.advance(seconds)

    @rule()
    def kill_the_server(self):
        for device in self.devices:
            device.cut()
        if here := hub._hubs.pop(self.loop, None):
            here._clock.stop()
            here.end_threads()

    # What must be true

    @invariant()
    def nobody_has_missed_anything(self):
        """Every row at a position that a client says it has is held as it is there."""
        if not hasattr(self, "devices"):
            return
        epoch = streams.epoch()
        for device in self.devices:
            follower = device.follower
            if follower.epoch != epoch:
                continue
            between = {"user": device.user, "seq__gt": follower.complete_after, "seq__lte": follower.cursor}
            for model, held in ((Notification, follower.notifications), (Job, follower.jobs)):
                for id, seq in model.objects.filter(**between).values_list("id", "seq"):
                    assert str(id) in held and held[str(id)]["seq"] >= seq, f"{id} at {seq} was missed."

    @rule()
    def converge(self):
        self.come_to_rest()

    def come_to_rest(self):
        """Nothing happens any more, and everybody is connected: soon all hold what the rows are."""
        self.fate = "lost"
        self.late.clear()
        for _ in range(DELIVERY_TIMEOUT_SECONDS):
            for device in self.devices:
                device.hear_answer()
                device.connect()
                device.exchange(1000)
            self.loop.advance(1)
            if all(not device.line or not device.line.up for device in self.devices) and not self.different():
                break
        assert not self.different()

    def different(self):
        """What the devices hold that is not as the rows are."""
        wrong = []
        for number, device in enumerate(self.devices):
            wrong += [f"device {number}: {what}" for what in differences(device.follower, device.user)]
        return wrong

    def teardown(self):
        try:
            if hasattr(self, "devices"):
                self.come_to_rest()
        finally:
            rung.disconnect(self.ring)
            if hasattr(self, "devices"):
                self.kill_the_server()
            self.loop.settle()
            self.loop.close()

    def mark_up_to(self, user, verb, back, ring):
        head = Stream.objects.get(pk=user.pk).head
        self.change(ring, rows.inbox.mark, user.pk, verb, max(0, head - back))

    def change(self, ring, deed, *args):
        self.fate = ring
        deed(*args)
        self.loop.settle()

    def some(self, bits):
        return [user for nth, user in enumerate(self.users) if bits & (1 << nth)]


def differences(follower, user):
    stream = Stream.objects.filter(pk=user.pk).first() or Stream(user=user)
    there = (streams.epoch(), stream.head, stream.unread)
    here = (follower.epoch, follower.cursor, follower.unread)
    if here != there:
        yield f"epoch, position and unread are {here}, not {there}"
        return
    notices = {str(row.pk): row for row in Notification.objects.filter(user=user)}
    jobs = {str(row.pk): row for row in Job.objects.filter(user=user)}
    seqs = [row.seq for row in (*notices.values(), *jobs.values()) if row.seq != 0]
    unread = sum(row.read_at is None and row.archived_at is None for row in notices.values())
    if None in seqs or len(set(seqs)) < len(seqs) or max(seqs, default=0) > stream.head:
        yield f"the numbers are {seqs}, the head is {stream.head}"
    if stream.unread != unread:
        yield f"unread is {stream.unread}, not {unread}"
    shown = [row for row in notices.values() if row.archived_at is None]
    needed = {str(row.pk) for row in shown} if len(shown) <= 50 else set()
    needed |= {id for id, row in notices.items() if row.seq is None or row.seq > follower.complete_after}
    needed |= {id for id, row in jobs.items() if not row.seq or row.seq > follower.complete_after}
    held = follower.notifications | follower.jobs
    if missing := needed - held.keys():
        yield f"{missing} are not held"
    for id, item in held.items():
        row = notices.get(id) or jobs.get(id)
        if row is None:  # pruned, of which nobody is told
            if not (item["archived_at"] if item["kind"] == "notification" else item["done"]):
                yield f"{item} is held, and gone"
        elif item != json.loads(serializers.encode(serializers.serialize(row))):
            yield f"{item} is {serializers.serialize(row)}"


listeners = []


def listen(callback):
    listeners.append(callback)
    return lambda: listeners.remove(callback)


# What is found is made smaller for up to 5 minutes.
@pytest.mark.timeout(400 + 4 * EXAMPLES)
def test_every_copy_converges(transactional_db, monkeypatch):
    """Drops, duplicates, late frames, reconnects, restores, reading, archiving, keys, pruning, jobs: no schedule that
    Hypothesis finds leaves a client with another copy, or with a hole at any moment."""
    monkeypatch.setattr(hub, "ThreadPool", Answers)
    monkeypatch.setattr(hub.doorbell, "listen", listen)
    Answers.open()
    try:
        run_state_machine_as_test(
            Delivery,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    finally:
        Answers.end()
