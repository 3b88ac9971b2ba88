"""Random changes of rows with faults of rings, server and network: the items of each client converge to the rows.

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

from notifications import serializers
from notifications.http import encode_json
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, Stream
from notifications.realtime import hub
from notifications.signals import rung
from tests.model import rows
from tests.model.device import Device
from tests.model.loop import DelayedThreadPool, FakeLoop

pytestmark = pytest.mark.database_law

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
STEPS = 40
#: For all clients to be up to date after the last change.
DELIVERY_TIMEOUT_SECONDS = 70

device_numbers = st.integers(0, 3)
user_bits = st.integers(1, 3)  # the first user, the second, both
ring_fates = st.sampled_from(["received", "received", "lost", "doubled", "late"])


class Delivery(RuleBasedStateMachine):
    """A server, two users, three browsers of the first user and one of the second."""

    run_count = 0

    def __init__(self):
        super().__init__()
        self.loop = FakeLoop()
        self.ring_fate = "received"
        self.late_rings = []
        rung.connect(self.ring)

    @initialize(delay_seconds=st.sampled_from([0.0, 0.02, 0.7]))
    def begin(self, delay_seconds):
        DelayedThreadPool.delay_seconds, DelayedThreadPool.loop = delay_seconds, self.loop
        Delivery.run_count += 1
        create = get_user_model().objects.create_user
        self.users = [create(f"model{Delivery.run_count}-{nth}") for nth in range(2)]
        self.devices = [Device(self.loop, self.users[nth // 3]) for nth in range(4)]
        rows.notify_users(self.users, 3, "", "committed")
        self.backup = rows.back_up(self.users)
        self.wait_until_converged()

    def ring(self, sender, users, changes, **kwargs):
        """Deliver a ring with what it carries, lose it, deliver it twice, or keep it for ring_late()."""
        rung_users = {user: changes.get(user, ()) for user in users}
        for _ in range({"received": 1, "doubled": 2}.get(self.ring_fate, 0)):
            self.deliver_ring(rung_users)
        if self.ring_fate == "late":
            self.late_rings.append(rung_users)

    def deliver_ring(self, users):
        for callback in tuple(listeners):
            callback(users, False)

    # Changes of rows

    @rule(
        bits=user_bits,
        count=st.integers(1, 4),
        key=st.sampled_from(["", "", "k"]),
        end=st.sampled_from(["committed", "one by one"]),
        ring_fate=ring_fates,
    )
    def notify(self, bits, count, key, end, ring_fate):
        self.change(ring_fate, rows.notify_users, self.select_users(bits), count, key, end)

    @rule(bits=user_bits, count=st.integers(1, 4), key=st.sampled_from(["", "k"]))
    def kill_between_commit_and_numbering(self, bits, count, key):
        self.change("lost", rows.notify_users, self.select_users(bits), count, key, "killed")

    @rule(bits=user_bits)
    def roll_back(self, bits):
        self.change("received", rows.notify_users, self.select_users(bits), 1, "", "rolled back")

    @rule(
        bits=user_bits,
        verb=st.sampled_from(["read", "unread", "archive", "unarchive"]),
        distance=st.integers(0, 3),
        ring_fate=ring_fates,
    )
    def mark(self, bits, verb, distance, ring_fate):
        for user in self.select_users(bits):
            self.mark_notifications(user, verb, distance, ring_fate)

    @rule(bits=user_bits, distance=st.integers(0, 5), ring_fate=ring_fates)
    def mark_seen(self, bits, distance, ring_fate):
        """Mark the notifications up to `distance` below the head as seen."""
        for user in self.select_users(bits):
            head = Stream.objects.get(pk=user.pk).head
            self.change(ring_fate, self.post, user, "seen", {"up_to": max(0, head - distance)})

    @rule(ring_fate=ring_fates)
    def enqueue_job(self, ring_fate):
        self.change(ring_fate, rows.enqueue_job, self.users[0])

    @rule(
        nth=st.integers(0, 5),
        action=st.sampled_from(["progress", "release", "fail", "finish", "retry"]),
        ring_fate=ring_fates,
    )
    def advance_job(self, nth, action, ring_fate):
        jobs = list(Job.objects.filter(user=self.users[0]).order_by("id"))
        if jobs:
            self.change(ring_fate, rows.advance_job, jobs[nth % len(jobs)], action)

    @rule(archives_first=st.booleans())
    def prune(self, archives_first):
        """Delete archived notifications and finished jobs, perhaps after archiving all notifications."""
        for user in self.users if archives_first else ():
            self.mark_notifications(user, "archive", 0, "received")
        self.change("received", rows.prune_all)

    @rule()
    def back_up(self):
        self.backup = rows.back_up(self.users)

    @rule(ring_fate=ring_fates)
    def restore(self, ring_fate):
        self.change(ring_fate, rows.restore, self.users, self.backup)

    # Network, time and server

    @rule(nth=device_numbers)
    def connect(self, nth):
        self.devices[nth].connect()
        self.loop.settle()

    @rule(nth=device_numbers)
    def disconnect(self, nth):
        self.devices[nth].disconnect()

    @rule(nth=device_numbers, count=st.integers(1, 30))
    def exchange(self, nth, count):
        self.devices[nth].exchange(count)
        self.loop.settle()

    @rule(nth=device_numbers, frame=st.integers(0, 7))
    def receive_again(self, nth, frame):
        self.devices[nth].receive_again(frame)

    @rule(nth=device_numbers)
    def request_sync(self, nth):
        self.devices[nth].request_sync()

    @rule(nth=device_numbers)
    def receive_response(self, nth):
        self.devices[nth].receive_response()

    @rule(nth=device_numbers)
    def ping(self, nth):
        device = self.devices[nth]
        if device.connection:
            device.connection.to_server.append({"op": "ping"})

    @precondition(lambda self: self.late_rings)
    @rule(data=st.data())
    def ring_late(self, data):
        for users in data.draw(st.permutations(self.late_rings)):
            self.deliver_ring(users)
        self.late_rings.clear()
        self.loop.settle()

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.5, 1, 5, 31, 61]))
    def advance_clock(self, seconds):
        self.ring_fate = "received"
        self.loop.advance(seconds)

    @rule()
    def kill_server(self):
        for device in self.devices:
            device.disconnect()
        if current_hub := hub._hubs.pop(self.loop, None):
            current_hub._clock.stop()
            current_hub.end_threads()

    # Checks

    @invariant()
    def no_client_misses_a_change(self):
        """A client has each item whose seq is at most its cursor, in a version that is not older."""
        if not hasattr(self, "devices"):
            return
        epoch = read_numbered_position(0).epoch  # which numbers nothing
        for device in self.devices:
            follower = device.follower
            if follower.epoch != epoch:
                continue
            between = {"user": device.user, "seq__gt": follower.complete_after, "seq__lte": follower.cursor}
            for model, items in ((Notification, follower.notifications), (Job, follower.jobs)):
                for id, seq in model.objects.filter(**between).values_list("id", "seq"):
                    assert str(id) in items and items[str(id)]["seq"] >= seq, f"{id} at {seq} was missed."

    @rule()
    def converge(self):
        self.wait_until_converged()

    def wait_until_converged(self):
        """Connect all devices, change no row and lose all rings, until the items of each device equal the rows."""
        self.ring_fate = "lost"
        self.late_rings.clear()
        for _ in range(DELIVERY_TIMEOUT_SECONDS):
            for device in self.devices:
                device.receive_response()
                device.connect()
                device.exchange(1000)
            self.loop.advance(1)
            is_idle = all(not device.connection or not device.connection.to_server for device in self.devices)
            if is_idle and not self.find_differences():
                break
        assert not self.find_differences()

    def find_differences(self):
        """Return the differences between the items of the devices and the rows."""
        return [
            f"device {number}: {difference}"
            for number, device in enumerate(self.devices)
            for difference in differences(device.follower, device.user)
        ]

    def teardown(self):
        try:
            if hasattr(self, "devices"):
                self.wait_until_converged()
        finally:
            rung.disconnect(self.ring)
            if hasattr(self, "devices"):
                self.kill_server()
            self.loop.settle()
            self.loop.close()

    def mark_notifications(self, user, verb, distance, ring_fate):
        """Mark the notifications up to `distance` below the head."""
        head = Stream.objects.get(pk=user.pk).head
        self.change(ring_fate, self.post, user, verb, {"up_to": max(0, head - distance)})

    def post(self, user, verb, body):
        client = next(device.client for device in self.devices if device.user == user)
        response = client.post(f"/notifications/api/notifications/{verb}/", body, "application/json")
        assert response.status_code == 200, response.content

    def change(self, ring_fate, operation, *args):
        self.ring_fate = ring_fate
        operation(*args)
        self.loop.settle()

    def select_users(self, bits):
        return [user for nth, user in enumerate(self.users) if bits & (1 << nth)]


def differences(follower, user):
    """Yield the differences between the items of a client and the rows of its user."""
    stream = Stream.objects.filter(pk=user.pk).first() or Stream(user=user)
    expected = (read_numbered_position(0).epoch, stream.head, stream.unread, stream.unseen)
    actual = (follower.epoch, follower.cursor, follower.unread, follower.unseen)
    if actual != expected:
        yield f"epoch, position and counts are {actual}, not {expected}"
        return
    notifications = {str(row.pk): row for row in Notification.objects.filter(user=user)}
    jobs = {str(row.pk): row for row in Job.objects.filter(user=user)}
    seqs = [row.seq for row in (*notifications.values(), *jobs.values()) if row.seq != 0]
    unread_rows = [row for row in notifications.values() if row.read_at is None and row.archived_at is None]
    unseen = sum((row.raised or 0) > stream.seen for row in unread_rows)
    if None in seqs or len(set(seqs)) < len(seqs) or max(seqs, default=0) > stream.head:
        yield f"the numbers are {seqs}, the head is {stream.head}"
    if (stream.unread, stream.unseen) != (len(unread_rows), unseen):
        yield f"the counts are {stream.unread} and {stream.unseen}, not {len(unread_rows)} and {unseen}"
    shown = [row for row in notifications.values() if row.archived_at is None]
    needed = {str(row.pk) for row in shown} if len(shown) <= 50 else set()
    needed |= {
        id for id, row in notifications.items() if row.seq is None or row.seq > follower.complete_after
    }
    needed |= {id for id, row in jobs.items() if not row.seq or row.seq > follower.complete_after}
    items = follower.notifications | follower.jobs
    if missing := needed - items.keys():
        yield f"{missing} are missing"
    for id, item in items.items():
        row = notifications.get(id) or jobs.get(id)
        if row is None:  # Clients are not notified of pruned rows.
            if not (item["archived_at"] if item["kind"] == "notification" else item["done"]):
                yield f"{item} exists only in the client, and was not prunable"
        elif item != json.loads(encode_json(serializers.serialize(row))):
            yield f"{item} is {serializers.serialize(row)}"


listeners = []


def listen(callback):
    listeners.append(callback)
    return lambda: listeners.remove(callback)


# Hypothesis may shrink a failing example for up to 5 minutes.
@pytest.mark.timeout(400 + 4 * EXAMPLES)
def test_all_clients_converge_to_the_rows(transactional_db, monkeypatch):
    """No client misses a change at any time, and the items of all clients equal the rows at the end.

    Hypothesis chooses notifications with and without keys, marking, pruning, jobs and restores, with lost, doubled and
    late rings and frames, reconnects and killed servers.
    """
    monkeypatch.setattr(hub, "ThreadPool", DelayedThreadPool)
    monkeypatch.setattr(hub.doorbell, "listen", listen)
    DelayedThreadPool.open()
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
        DelayedThreadPool.end()
