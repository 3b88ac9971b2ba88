"""Who takes a change that a ring carries. Its texts are marked, so that they differ from those that are read."""

import asyncio
import threading
import time
from contextlib import contextmanager

from django.db import transaction
from django.test import Client

from notifications import streams
from notifications.api import notify
from notifications.signals import rung
from tests.data.rows import job
from tests.realtime.auth.test_sign_outs import no_rings
from tests.realtime.conftest import in_thread
from tests.realtime.test_following import READ_MISSED
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until


@contextmanager
def recorded():
    """Drop the rings of this process, but keep what they carry: pairs of users and changes."""
    found = []

    def receive(sender, users, changes, **kwargs):
        found.append((users, changes))

    with no_rings():
        rung.connect(receive)
        yield found


def mark_all_as_read(user):
    client = Client()
    client.force_login(user)
    body = {"up_to": 2}
    assert client.post("/notifications/api/notifications/read/", body, "application/json").status_code == 200


async def keep_rings(function, *args):
    with recorded() as found:
        await in_thread(function, *args)
    return found


def mark(ring):
    users, changes = ring
    marked = {
        user: tuple(change._replace(items=change.items.replace("note", "carried")) for change in each)
        for user, each in changes.items()
    }
    return users, marked


async def notified(user, *titles):
    """Notify, and return the ring of each, which is not sent, with marked texts."""
    return [mark(ring) for title in titles for ring in await keep_rings(notify, user, title)]


async def send(ring, **replaced):
    users, changes = ring
    changes = {
        user: tuple(each._replace(**replaced) for each in of_user) for user, of_user in changes.items()
    }
    await in_thread(lambda: rung.send(None, users=users, queue=False, changes=changes))


async def send_all_at_once(*rings):
    """Send rings in one transaction, which merges them as the doorbell does those of 5 ms."""

    def ring():
        with transaction.atomic():
            for users, changes in rings:
                streams.ring(users, changes=changes)

    await in_thread(ring)


def titles(frame):
    return [item["title"] for item in frame["items"]]


async def followed(connect, user):
    """Return a socket whose position is 1, and whose guard is known."""
    await in_thread(notify, user, "note 1")
    socket = await connect(user)
    assert (await socket.start())["seq"] == 1
    return socket


async def test_live_subscriber_takes_it(connect, user, wrap_statements):
    """At its position it is sent as a frame that was read, and so is the next one; nothing is read."""
    reads = []
    wrap_statements(
        lambda execute, sql, *args: (READ_MISSED in sql and reads.append(sql)) or execute(sql, *args)
    )
    socket = await followed(connect, user)
    assert reads
    reads.clear()
    for number in (2, 3):
        [ring] = await notified(user, f"note {number}")
        await send(ring)
        frame = await socket.receive("change")
        assert (frame["prev"], frame["seq"], frame["unread"]) == (number - 1, number, number)
        assert titles(frame) == [f"carried {number}"]
    assert not reads
    [ring] = await keep_rings(notify, user, "note 4")
    await send((ring[0], {}))
    assert titles(await socket.receive("change")) == ["note 4"]


async def test_all_sockets_of_a_user_take_it(connect, user, other_user):
    sockets = [await followed(connect, user), await connect(user)]
    await sockets[1].start()
    other = await connect(other_user)
    await other.start()
    [ring] = await notified(user, "note 2")
    await send(ring)
    assert [titles(await socket.receive("change")) for socket in sockets] == [["carried 2"]] * 2
    await other.receive_beat_only()


async def test_after_a_lost_ring_it_is_read(connect, user):
    """Another position: the socket is sent both changes, as they were read."""
    socket = await followed(connect, user)
    _, ring = await notified(user, "note 2", "note 3")
    await send(ring)
    frame = await socket.receive("change")
    assert (frame["prev"], frame["seq"]) == (1, 3)
    assert titles(frame) == ["note 2", "note 3"]


async def test_at_different_positions_each_is_sent_all(connect, user):
    """One socket of the user takes it, the one that is behind is read up."""
    first = await followed(connect, user)
    lost, ring = await notified(user, "note 2", "note 3")
    second = await connect(user)
    assert (await second.start())["seq"] == 3
    await send(ring)
    frame = await first.receive("change")
    assert (frame["prev"], frame["seq"], titles(frame)) == (1, 3, ["note 2", "note 3"])
    await send(lost)
    for socket in (first, second):
        assert (await socket.receive_beat_only())["seq"] == 3


async def test_with_another_guard_it_is_read(connect, user):
    """Sessions may have ended before it."""
    socket = await followed(connect, user)
    [ring] = await notified(user, "note 2")
    await send(ring, guard=1)
    assert titles(await socket.receive("change")) == ["note 2"]


async def test_of_another_epoch_it_is_read(connect, user):
    """A backup was restored since it was made: its seq may be that of another row."""
    socket = await followed(connect, user)
    [ring] = await notified(user, "note 2")
    await send(ring, epoch="another")
    assert titles(await socket.receive("change")) == ["note 2"]


async def test_after_a_sign_out_whose_ring_was_lost_it_is_read(connect, user):
    """The read finds the guard, and the session that has ended gets nothing more."""
    socket = await followed(connect, user)
    user.set_password("another")
    await keep_rings(user.save)
    [ring] = await notified(user, "note 2")
    await send(ring)
    frame = await socket.receive()
    if frame["op"] == "change":  # was read before the sessions were
        assert titles(frame) == ["note 2"]
        frame = await socket.receive("bye")
    assert frame["code"] == 4401


async def test_carried_during_a_read(connect, user, wrap_statements, set_ticks):
    """The socket has another position than the read then. What follows is read next, and no job is left out."""
    set_ticks(POSITION_CHECK=10**6)
    socket = await followed(connect, user)
    carried, ring = await notified(user, "note 2", "note 3")
    await keep_rings(job, user)
    late = [carried]

    def carry(execute, sql, *args):
        result = execute(sql, *args)
        if READ_MISSED in sql and late:
            users, changes = late.pop()
            received = len(socket.raw)
            rung.send(None, users=users, queue=False, changes=changes)
            wait_until(lambda: len(socket.raw) > received)
        return result

    wrap_statements(carry)
    await send((ring[0], {}))
    frame = await socket.receive("change")
    assert (frame["prev"], frame["seq"], titles(frame)) == (1, 2, ["carried 2"])
    assert [item["state"] for item in (await socket.receive("jobs"))["jobs"]] == ["queued"]
    frame = await socket.receive("change")
    assert (frame["prev"], frame["seq"], titles(frame)) == (2, 3, ["note 3"])


async def test_doubled_ring_is_sent_once(connect, user):
    socket = await followed(connect, user)
    [ring] = await notified(user, "note 2")
    await send(ring)
    await send(ring)
    assert titles(await socket.receive("change")) == ["carried 2"]
    assert (await socket.receive_beat_only())["seq"] == 2


async def test_reordered_rings_are_sent_in_order(connect, user):
    socket = await followed(connect, user)
    first, second = await notified(user, "note 2", "note 3")
    await send(second)
    await send(first)
    seq, numbers = 1, []
    while seq < 3:  # both are read in one frame, or the first has come before they are
        frame = await socket.receive("change")
        assert frame["prev"] == seq
        seq = frame["seq"]
        numbers += [title.split()[-1] for title in titles(frame)]
    assert numbers == ["2", "3"]
    assert (await socket.receive_beat_only())["seq"] == 3


async def test_late_ring_is_not_sent(connect, user):
    """What it is about has changed since, which was sent."""
    socket = await followed(connect, user)
    [late] = await notified(user, "note 2")
    await in_thread(mark_all_as_read, user)
    frame = await socket.receive("change")
    assert (frame["prev"], frame["seq"] > 2, frame["unread"]) == (1, True, 0)
    await send(late)
    assert (await socket.receive_beat_only())["seq"] == frame["seq"]


async def test_merged_rings_are_sent_in_order(connect, user):
    socket = await followed(connect, user)
    await send_all_at_once(*await notified(user, "note 2", "note 3"))
    frames = [await socket.receive("change") for _ in range(2)]
    assert [(frame["prev"], titles(frame)) for frame in frames] == [(1, ["carried 2"]), (2, ["carried 3"])]


async def test_rings_merged_with_one_that_carries_nothing_are_read(connect, user):
    socket = await followed(connect, user)
    first, second, third = await notified(user, "note 2", "note 3", "note 4")
    await send_all_at_once(first, (second[0], {}), third)
    frame = await socket.receive("change")
    assert (frame["prev"], titles(frame)) == (1, ["note 2", "note 3", "note 4"])


async def test_socket_that_lags_is_caught_up(connect, user, set_first_ack):
    """It is not sent live frames until its acknowledgment, then all of them as they are read."""
    set_first_ack(3)
    socket = await followed(connect, user)
    [first] = await notified(user, "note 2")
    await send(first)
    frame = await socket.receive("change")
    assert frame["ack"] and titles(frame) == ["carried 2"]
    rings = await notified(user, *(f"note {number}" for number in range(3, 70)))
    for ring in rings:
        await send(ring)
        await asyncio.sleep(0)
    received = 2
    while received < 69:
        frame = await socket.receive()
        socket.ack_if_requested(frame)
        assert frame["prev"] == received, frame
        received = frame["seq"]


async def test_carried_during_the_first_read_of_another_socket(connect, user, wrap_statements, set_ticks):
    """The socket that is caught up is not live then, and what it was sent does not have the change."""
    set_ticks(POSITION_CHECK=10**6)
    first = await followed(connect, user)
    second = await connect(user)
    reading = []

    def commit_after_head(execute, sql, *args):
        if reading == [threading.get_ident()]:
            reading.append("done")
            run_in_threads(lambda: notify(user, "note 2"))
            time.sleep(0.2)
        elif READ_MISSED in sql and not reading:
            reading.append(threading.get_ident())
        return execute(sql, *args)

    wrap_statements(commit_after_head)
    assert (await second.start())["seq"] == 1
    for socket in (first, second):
        frame = await socket.receive("change")
        assert (frame["prev"], frame["seq"]) == (1, 2)
