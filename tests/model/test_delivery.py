"""Random changes of rows with faults of rings, server and network: the items of each client converge to the rows.

MODEL_EXAMPLES=500 python -m pytest tests/model    a long run
"""

import asyncio
import json
import os
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone
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
from notifications.api import notify
from notifications.http import encode_json
from notifications.inbox import read_numbered_position
from notifications.jobs.transitions import running
from notifications.models import Attempt, Epoch, Job, Notification, Stream
from notifications.realtime import hub
from notifications.routing import websocket_urlpatterns
from notifications.signals import rung
from notifications.streams import build_notification
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.follower import FINAL_CODES, Follower
from tests.support.outcomes import failed, record, release, succeeded

pytestmark = pytest.mark.database_law


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only by `advance()`."""

    now = 1_000_000.0

    def time(self):
        return self.now

    def settle(self):
        """Run all callbacks that are due, also those that they schedule."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            due = self._scheduled and self._scheduled[0]._when <= self.now
            if not self._ready and not due:
                return

    def advance(self, seconds):
        """Advance the clock and run each callback at the time at which it is due."""
        end = self.now + seconds
        self.settle()
        while self._scheduled and self._scheduled[0]._when <= end:
            self.now = max(self.now, self._scheduled[0]._when)
            self.settle()
        self.now = end
        self.settle()


class DelayedThreadPool:
    """Replace ThreadPool: a call is executed immediately, and its result arrives `delay_seconds` later.

    Changes in between are not in the result, as with a slow query in production.
    """

    delay_seconds = 0.0
    loop: FakeLoop
    executor: ThreadPoolExecutor

    def __init__(self, name, size):
        pass

    @classmethod
    def open(cls):
        cls.executor = ThreadPoolExecutor(1)

    @classmethod
    def end(cls):
        cls.executor.submit(connections.close_all).result()
        cls.executor.shutdown()

    def submit(self, function):
        """Execute a call as soon as the loop runs: a ring may come from the executor's only thread."""
        future = Future()

        def complete(call):
            if error := call.exception():
                future.set_exception(error)
            else:
                future.set_result(call.result())

        self.loop.call_soon_threadsafe(lambda: self.run(function).add_done_callback(complete))
        return future

    def run(self, work, *args):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        try:
            result, error = self.executor.submit(work, *args).result(), None
        except Exception as exc:
            result, error = None, exc

        def complete():
            if future.cancelled():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)

        loop.call_later(self.delay_seconds, complete)
        return future

    def close(self):
        return []


WORKER = uuid.uuid4()


def notify_users(users, count, key, end):
    """Notify "one by one", or in a transaction that is "committed", "rolled back", or "killed" before the numbering."""
    if end == "killed":
        rows = [build_notification(user.pk, f"left {nth}", key=key) for nth in range(count) for user in users]
        Notification.objects.bulk_create(rows)
        return
    with transaction.atomic() if end != "one by one" else nullcontext():
        for nth in range(count):
            notify(users, f"note {nth}", key=key)
        if end == "rolled back":
            transaction.set_rollback(True)


def enqueue_job(user):
    """Enqueue a job in a queue of its own."""
    tasks.noop.using(owner=user, queue_name=uuid.uuid4().hex[:20]).enqueue()


def advance_job(row, action):
    """Claim a queued job; apply the action to a running or failed one if its state allows it."""
    if row.state == "queued":
        claim_rows(WORKER, 1, queues=[row.queue_name])
    elif row.state == "running" and action == "progress":
        row.progress_current = (row.progress_current or 0) + 1
        running.store_progress([row])
    elif row.state == "running" and action == "release":
        release(row)
    elif row.state == "running" and action == "fail":
        record(failed(row, ValueError("broken")))
    elif row.state == "running":
        record(succeeded(row))
    elif row.state == "failed" and action == "retry":
        retry_job(row)


def retry_job(row):
    """Change the row as a manual retry does."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk, state="failed").update(
            state="queued",
            seq=0,
            version=F("version") + 1,
            fence=F("fence") + 1,
            max_attempts=F("max_attempts") + 3,
            queued_at=timezone.now(),
            finished_at=None,
            result=None,
            error=None,
        )
        streams.ring([row.user_id], queue=True)


def prune_all():
    """Delete all archived notifications and finished jobs."""
    call_command("notifications", "prune", days=0, stdout=StringIO())


def back_up(users):
    """Return the streams, notifications and jobs of users."""
    return [list(model.objects.filter(user__in=users)) for model in (Stream, Notification, Job)]


def restore(users, backup):
    """Replace the rows of users by those of a backup, and begin a new epoch."""
    with transaction.atomic():
        Attempt.objects.filter(job__in=Job.objects.filter(user__in=users).values("id")).delete()
        for model, rows in zip((Stream, Notification, Job), backup, strict=True):
            model.objects.filter(user__in=users).delete()
            model.objects.bulk_create(rows)
    Epoch.objects.all().delete()


class Device:
    """One browser of a user. Its `follower` outlives its connections."""

    def __init__(self, loop, user):
        self.loop = loop
        self.user = user
        self.client = Client()
        self.client.force_login(user)
        self.follower = Follower()
        self.connection = None
        self.recent_frames = deque(maxlen=8)  # may be received a second time
        self.pending_response = (
            None  # a sync frame of HTTP, and the number of resets at the time of the request
        )

    def connect(self):
        if self.connection is None:
            self.connection = DeviceConnection(self.loop, self.user)
            self.connection.to_server.append(self.follower.hello())

    def disconnect(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def exchange(self, count):
        """Deliver at most `count` messages in each direction."""
        connection = self.connection
        if connection is None:
            return
        for _ in range(min(count, len(connection.to_server))):
            connection.deliver_to_server(connection.to_server.popleft())
        self.loop.settle()
        for _ in range(min(count, len(connection.to_client))):
            message = connection.to_client.popleft()
            if message["type"] == "websocket.close":
                assert message["code"] not in FINAL_CODES, f"Closed with the final code {message['code']}."
                self.connection = None
                return
            if message["type"] == "websocket.send":
                self.receive(json.loads(message["text"]))

    def receive(self, frame):
        connection = self.connection
        connection.check(frame)
        if frame.get("reset"):
            self.recent_frames.clear()
        else:
            self.recent_frames.append({key: value for key, value in frame.items() if key != "ack"})
        connection.to_server.extend(self.follower.receive(frame))
        self.fetch_missing_jobs()

    def receive_again(self, nth):
        """Receive a recent frame a second time. Without a connection, the frames in response are dropped."""
        if self.recent_frames:
            responses = self.follower.receive(self.recent_frames[nth % len(self.recent_frames)])
            if self.connection:
                self.connection.to_server.extend(responses)
            self.fetch_missing_jobs()

    def request_sync(self):
        """Send GET sync/. The response is in transit until receive_response()."""
        position = {"epoch": self.follower.epoch or "", "seq": self.follower.cursor or 0}
        response = self.client.get("/notifications/api/sync/", position)
        self.pending_response = (response.json(), self.follower.resets)

    def receive_response(self):
        if self.pending_response and self.pending_response[1] == self.follower.resets:
            frame = self.pending_response[0]
            if frame["reset"]:
                self.recent_frames.clear()
            self.follower.receive(frame)
            self.fetch_missing_jobs()
        self.pending_response = None

    def fetch_missing_jobs(self):
        """GET the active jobs that the last sync did not list, and forget those that do not exist."""
        paths, self.follower.paths_to_fetch = self.follower.paths_to_fetch, []
        for path in paths:
            id = path.rstrip("/").rpartition("/")[2]
            row = Job.objects.filter(pk=id, user=self.user).first()
            if row:
                self.follower.apply_item(json.loads(encode_json(serializers.serialize(row))))
            else:
                del self.follower.jobs[id]


class DeviceConnection:
    """One WebSocket. `to_server` and `to_client` are the messages in transit."""

    def __init__(self, loop, user):
        self.loop = loop
        self.to_server, self.to_client = deque(), deque()
        self.incoming = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.last_n, self.last_seq = 0, None
        self.requested_syncs = 0
        scope = {
            "type": "websocket",
            "path": "/ws/notifications/",
            "headers": [(b"host", b"testserver"), (b"origin", b"http://testserver")],
            "user": user,
        }
        self.task = loop.create_task(websocket_urlpatterns[0].callback(scope, self.incoming.get, self.send))

    async def send(self, message):
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        self.to_client.append(message)

    def deliver_to_server(self, frame):
        self.requested_syncs += frame["op"] == "sync"
        self.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def close(self):
        self.to_server.clear()
        self.to_client.clear()
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.loop.settle()

    def check(self, frame):
        """Check that `n` counts frames, `prev` is the last seq unless a sync was requested, and items are ordered."""
        if "n" in frame:
            assert frame["n"] == self.last_n + 1, frame
            self.last_n = frame["n"]
        if frame["op"] not in ("sync", "change"):
            return
        follows = self.last_seq is None or frame["prev"] == self.last_seq
        if not follows and not frame.get("reset"):
            assert frame["op"] == "sync" and self.requested_syncs > 0, (
                f"{frame['prev']} does not follow {self.last_seq}."
            )
        self.last_seq = frame["seq"]
        seqs = [item["raised" if frame.get("reset") else "seq"] for item in frame["items"]]
        assert seqs == sorted(seqs), seqs


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
        notify_users(self.users, 3, "", "committed")
        self.backup = back_up(self.users)
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
        self.change(ring_fate, notify_users, self.select_users(bits), count, key, end)

    @rule(bits=user_bits, count=st.integers(1, 4), key=st.sampled_from(["", "k"]))
    def kill_between_commit_and_numbering(self, bits, count, key):
        self.change("lost", notify_users, self.select_users(bits), count, key, "killed")

    @rule(bits=user_bits)
    def roll_back(self, bits):
        self.change("received", notify_users, self.select_users(bits), 1, "", "rolled back")

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
        self.change(ring_fate, enqueue_job, self.users[0])

    @rule(
        nth=st.integers(0, 5),
        action=st.sampled_from(["progress", "release", "fail", "finish", "retry"]),
        ring_fate=ring_fates,
    )
    def advance_job(self, nth, action, ring_fate):
        jobs = list(Job.objects.filter(user=self.users[0]).order_by("id"))
        if jobs:
            self.change(ring_fate, advance_job, jobs[nth % len(jobs)], action)

    @rule(archives_first=st.booleans())
    def prune(self, archives_first):
        """Delete archived notifications and finished jobs, perhaps after archiving all notifications."""
        for user in self.users if archives_first else ():
            self.mark_notifications(user, "archive", 0, "received")
        self.change("received", prune_all)

    @rule()
    def back_up(self):
        self.backup = back_up(self.users)

    @rule(ring_fate=ring_fates)
    def restore(self, ring_fate):
        self.change(ring_fate, restore, self.users, self.backup)

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
