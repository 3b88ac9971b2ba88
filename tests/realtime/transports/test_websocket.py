"""WebSocket flow control: acknowledgments, the window, rate limits, and clients that do not read."""

import asyncio
import json
import re
from itertools import accumulate

import pytest
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session

from notifications.api import notify
from notifications.realtime.hub import current_hub
from notifications.realtime.servers import daphne
from notifications.realtime.transports import websocket
from tests.realtime import rows
from tests.realtime.conftest import block_sends, in_thread, until


@pytest.fixture
def set_socket(monkeypatch):
    """set_socket(WINDOW_FRAMES=3) sets a limit or a time of WebSockets."""
    return lambda **to: [monkeypatch.setattr(websocket, name, to[name]) for name in to]


async def receive_change(socket, title):
    """Return the next frame, a change with this title."""
    frame = await socket.receive("change")
    assert [item["title"] for item in frame["items"]] == [title]
    return frame


async def notify_and_receive(socket, user, title):
    """Notify the user and return the change that the socket receives."""
    await in_thread(notify, user, title)
    return await receive_change(socket, title)


@pytest.mark.parametrize("first", [1, 2, 9, 16])
async def test_every_16th_frame_requests_an_ack(connect, user, set_first_ack, first):
    """Every 16th numbered frame (welcome, sync, change, jobs) has "ack": true; the others have no ack."""
    set_first_ack(first)
    socket = await connect(user)
    await socket.start()
    for number in range(3, 49):
        frame = await notify_and_receive(socket, user, f"note {number}")
        assert frame["n"] == number
    for number, text in enumerate(socket.raw, 1):
        frame = json.loads(text)
        assert ("ack" in frame) == (number % 16 == first % 16), number
        if "ack" in frame:
            assert list(frame)[:3] == ["op", "n", "ack"]
            assert frame["ack"] is True


async def test_first_requested_ack_is_random(connect, user, set_first_ack):
    """The first ack is requested with a random one of 16 frames, so that not all sockets acknowledge at once."""
    set_first_ack(None)
    await connect(user)
    subscriber = current_hub().subscribers()[0]
    numbers = set()
    for _ in range(1000):
        numbers.add(websocket.Socket(subscriber.hub, user.pk, None, subscriber.send).next_ack_n)
    assert numbers == set(range(1, 17))


async def test_ack_is_requested_after_64_kib(connect, user):
    """An ack is requested after 64 KiB of frames since the last request."""
    socket = await connect(user)
    await socket.start()
    for number in range(60):
        await notify_and_receive(socket, user, f"note {number}") if number % 7 == 0 else await in_thread(
            rows.notices, user, 3, body="ä" * 2000
        )
        if number % 7:
            await socket.receive("change")
        socket.ack_if_requested(json.loads(socket.raw[-1]))
    total = count = 0
    for text in socket.raw:
        total, count = total + len(text.encode()), count + 1
        is_requested = '"ack":true' in text[:40]
        assert is_requested == (total >= 64 * 1024 or count == 16), (total, count)
        if is_requested:
            total = count = 0


async def test_full_window_stops_live_frames_until_an_ack(connect, user):
    """After 64 unacknowledged frames only beats are sent; an ack is answered with a sync from the position."""
    socket = await connect(user)
    await socket.start()
    for number in range(3, 65):
        await notify_and_receive(socket, user, f"note {number}")
    missed = [f"missed {number}" for number in range(3)]
    for title in missed:
        await in_thread(notify, user, title)
    job = await in_thread(rows.job, user)
    subscriber = current_hub().subscribers()[0]
    await until(lambda: subscriber.needs_sync)
    assert (await socket.receive_beat_only())["seq"] == 62
    socket.send_frame("ack", n=16)
    sync = await socket.receive("sync")
    assert (sync["n"], sync["prev"], sync["seq"], sync["reset"]) == (65, 62, 65, False)
    assert [item["title"] for item in sync["items"]] == missed
    assert [item["id"] for item in sync["jobs"]] == [str(job.pk)]
    assert (await notify_and_receive(socket, user, "live again"))["prev"] == 65


async def test_jobs_frame_without_room_is_replaced_by_sync(connect, user):
    """A jobs frame that exceeds the window is dropped; the sync after the next ack has the current jobs."""
    socket = await connect(user)
    await socket.start()
    job = await in_thread(rows.job, user)
    await socket.receive("jobs")
    for step in range(62):
        await in_thread(rows.change, job, progress_current=step)
        if step < 61:
            await socket.receive("jobs")
    await until(lambda: current_hub().subscribers()[0].needs_sync)
    socket.send_frame("ack", n=64)
    sync = await socket.receive("sync")
    assert (sync["prev"], sync["seq"], sync["items"]) == (0, 0, [])
    assert [item["version"] for item in sync["jobs"]] == [63]


async def test_window_is_limited_to_256_kib(connect, user):
    """Large frames fill the window at 256 KiB, before 64 of them are sent. The next one may have up to 24 rows."""
    socket = await connect(user)
    await socket.start()
    for _ in range(6):
        await in_thread(rows.notices, user, 12, body="ä" * 2000)
    subscriber = current_hub().subscribers()[0]
    await until(lambda: subscriber.needs_sync)
    sent = 0
    while not socket.outgoing.empty():
        await socket.receive()
    sent = sum(len(text.encode()) for text in socket.raw)
    assert 150 * 1024 < sent <= 256 * 1024
    assert (subscriber.sent_bytes, subscriber.acked_bytes) == (sent, 0)


async def test_one_frame_may_always_be_sent(connect, user, set_socket):
    """A frame larger than the window is sent if nothing is unacknowledged."""
    set_socket(WINDOW_BYTES=1000)
    socket = await connect(user)
    await in_thread(rows.notices, user, 20)
    socket.send_frame("hello")
    await socket.receive("welcome")
    socket.send_frame("ack", n=1)
    assert len((await socket.receive("sync"))["items"]) == 20


async def test_old_ack_has_no_effect(connect, user):
    """An ack that is not higher than the last one changes nothing."""
    socket = await connect(user)
    await socket.start()
    subscriber = current_hub().subscribers()[0]
    socket.send_frame("ack", n=2)
    await until(lambda: subscriber.unacked_ends == [])
    for number in range(3):
        await notify_and_receive(socket, user, f"note {number}")
    before = (subscriber.unacked_ends.copy(), subscriber.acked_bytes)
    assert before == ([*accumulate(map(len, socket.raw))][2:], sum(map(len, socket.raw[:2])))
    for n in (2, 1, 0):
        socket.send_frame("ack", n=n)
    await socket.receive_beat_only()
    assert (subscriber.unacked_ends, subscriber.acked_bytes) == before


async def test_ack_above_last_frame_is_refused(connect, user):
    """An ack of a frame that was not sent gets bye bad_ack."""
    socket = await connect(user)
    await socket.start()
    socket.send_frame("ack", n=3)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"], bye["after_ms"]) == (4400, "bad_ack", False, 0)


async def test_late_ack_closes_the_connection(connect, user, short_ticks, set_socket):
    """A client that does not acknowledge in time gets bye too_slow; one that does stays connected."""
    set_socket(ACK_TIMEOUT_SECONDS=1.5)
    slow, quick = await connect(user), await connect(user)
    await slow.start()
    await quick.start()
    for number in range(3, 18):
        await notify_and_receive(slow, user, f"note {number}")
        quick.ack_if_requested(await quick.receive("change"))
    bye = await slow.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4408, "too_slow", True)
    assert (await quick.receive_beat_only())["seq"] == 15


async def test_each_ack_has_its_own_deadline(connect, user, short_ticks, set_socket):
    """An ack in time does not extend the deadline of the next requested ack."""
    set_socket(ACK_TIMEOUT_SECONDS=2.0, MAX_FRAMES_BETWEEN_ACKS=3)
    socket = await connect(user)
    await socket.start()
    for number in range(3, 7):
        await notify_and_receive(socket, user, f"note {number}")
    socket.send_frame("ack", n=3)
    assert (await socket.receive_bye())["reason"] == "too_slow"


async def test_beats_are_periodic_also_with_full_window(connect, user, monkeypatch, short_ticks, set_socket):
    """Beats have the position up to which changes were sent, and continue while the window is full."""
    monkeypatch.setattr("notifications.realtime.frames.BEAT_INTERVAL_SECONDS", 0.2)
    set_socket(WINDOW_FRAMES=3)
    socket = await connect(user)
    await socket.start()
    assert (await socket.receive("beat"))["seq"] == 0
    await in_thread(notify, user, "sent")
    while (await socket.receive())["op"] == "beat":
        pass
    await in_thread(notify, user, "not sent")
    await until(lambda: current_hub().subscribers()[0].needs_sync)
    for _ in range(3):
        assert await socket.receive() == {"op": "beat", "seq": 1}


async def test_ping_before_first_sync_is_answered_after_it(connect, user):
    """Pings before the first sync are answered with one beat after it."""
    await in_thread(rows.notices, user, 2)
    socket = await connect(user)
    socket.send_frame("hello")
    socket.send_frame("ping")
    socket.send_frame("ping")
    await socket.receive("welcome")
    await socket.receive("sync")
    assert await socket.receive("beat") == {"op": "beat", "seq": 2}


async def test_slow_client_is_bounded_and_delays_no_other(connect, user):
    """A client that does not read delays no other, and its pending frames are bounded by the window."""
    stuck, quick = await connect(user), await connect(user)
    await stuck.start()
    await quick.start()
    stuck_subscriber = next(
        subscriber
        for subscriber in current_hub().subscribers()
        if subscriber.last_n == 2 and subscriber.send.__self__ is stuck
    )
    async with block_sends(stuck):
        for number in range(100):
            quick.ack_if_requested(await notify_and_receive(quick, user, f"note {number}"))
            stuck.send_frame("ping") if number % 20 == 0 else None
        await until(lambda: stuck_subscriber.needs_sync)
        # At most one beat between two frames.
        assert len(stuck_subscriber.outbox) <= 2 * websocket.WINDOW_FRAMES
    frames = []
    while len(frames) < 62:
        frame = await stuck.receive()
        frames += [frame] if frame["op"] == "change" else []
    assert [frame["seq"] for frame in frames] == list(range(1, 63))


async def test_stuck_client_is_dropped(connect, user, set_socket):
    """If a bye cannot be sent, the application ends after a timeout."""
    set_socket(CLOSE_TIMEOUT_SECONDS=0.1)
    socket = await connect(user)
    await socket.start()
    socket.unblocked.clear()
    socket.send_text("no json")
    await socket.wait_until_closed()
    assert current_hub().subscribers() == []


@pytest.mark.parametrize("count", [60, 61])
async def test_rate_limit_of_frames(connect, user, count):
    """60 frames are accepted, including hello; the 61st gets bye too_many_frames."""
    socket = await connect(user)
    await socket.start()
    for _ in range(count - 1):
        socket.send_frame("ack", n=0)
    if count == 61:
        bye = await socket.receive_bye()
        assert (bye["code"], bye["reason"], bye["reconnect"]) == (4429, "too_many_frames", True)
        assert bye["after_ms"] >= 30_000
    else:
        await until(socket.incoming.empty)
        await in_thread(notify, user, "still here")
        await socket.receive("change")


async def test_requested_acks_do_not_count(connect, user, set_socket):
    """Acks that the server requested do not count for the rate limit of frames."""
    set_socket(MAX_FRAMES_BETWEEN_ACKS=1, RATE_FRAMES=2)
    socket = await connect(user)
    await socket.start()
    socket.send_frame("ack", n=1)
    socket.send_frame("ack", n=2)
    for number in range(5):
        socket.ack_if_requested(await notify_and_receive(socket, user, f"note {number}"))
    await socket.receive_beat_only()
    socket.send_frame("ack", n=1)
    assert (await socket.receive_bye())["reason"] == "too_many_frames"


async def test_rate_limits_expire(connect, user, set_socket):
    """Frames older than RATE_SECONDS do not count."""
    set_socket(RATE_SECONDS=0.05, RATE_FRAMES=2)
    socket = await connect(user)
    await socket.start()
    for _ in range(5):
        await asyncio.sleep(0.06)
        await socket.receive_beat_only()


async def test_rate_limit_of_syncs(connect, user):
    """Ten syncs are accepted; the eleventh gets bye too_many_syncs."""
    socket = await connect(user)
    await socket.start()
    for _ in range(10):
        socket.send_frame("sync", seq=0)
        assert (await socket.receive("sync"))["seq"] == 0
    socket.send_frame("sync", seq=0)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"]) == (4429, "too_many_syncs")
    assert bye["after_ms"] >= 30_000


async def test_ack_of_frames_that_have_not_left(connect, user):
    """A client that does not read, and acknowledges, would have the server keep any number of frames."""
    socket = await connect(user)
    await socket.start()
    async with block_sends(socket):
        for number in range(1, 41):
            await in_thread(notify, user, "one", body="x" * 2_000)
            await until(lambda number=number: current_hub().subscribers()[0].position == number)
        socket.send_frame("ack", n=20)  # of what the connection may have taken
        socket.send_frame("ack", n=42)
        await until(lambda: not current_hub().subscribers())
    for _ in range(40):
        await socket.receive("change")
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"]) == (4400, "bad_ack")


async def test_content_type_that_django_refuses(connect, user):
    """It has no meaning for a handshake, and is no error of the server."""
    headers = [
        (b"content-type", b"text/plain; charset*=unknown'en'x"),
        *[(b"content-type", b"a" * 2_000)] * 6,
    ]
    socket = await connect(user, headers=headers)
    assert (await socket.start())["op"] == "sync"


async def test_direct_writes_do_not_overtake_pending_frames(connect, user, monkeypatch):
    """A frame is not written directly while the server has not accepted an earlier one."""
    direct_writes = []
    monkeypatch.setattr(
        daphne,
        "writer_of",
        lambda send: lambda frame: bool(direct_writes) and (direct_writes.append(frame) or True),
    )
    socket = await connect(user)
    await socket.start()
    async with block_sends(socket):
        await in_thread(notify, user, "one")
        await until(lambda: current_hub().subscribers()[0].position == 1)
        direct_writes.append("open")
        await in_thread(notify, user, "two")
        await until(lambda: current_hub().subscribers()[0].position == 2)
    for title in ("one", "two"):
        await receive_change(socket, title)
    assert direct_writes == ["open"]
    await in_thread(notify, user, "three")
    await until(lambda: len(direct_writes) == 2)
    assert json.loads(direct_writes[1][4:])["items"][0]["title"] == "three"


@pytest.fixture
def direct_writes(monkeypatch):
    """What is written past the ASGI ``send``, which takes the accept and what the list refuses."""

    class Writes(list):
        is_refusing = False

        def write(self, data):
            return not self.is_refusing and (self.append(data) or True)

        def ops(self):
            return [re.findall(rb'"op":"(\w+)","n":(\d+)|"op":"(bye)"', data) for data in self]

    writes = Writes()
    monkeypatch.setattr(daphne, "writer_of", lambda send: writes.write)
    return writes


WELCOME, SYNC, BYE = (b"welcome", b"1", b""), (b"sync", b"2", b""), (b"", b"", b"bye")


@pytest.fixture
def unblock_reads(monkeypatch):
    """A function that lets the hub read for the subscribers that have joined. Until then it reads nothing."""
    waiting = []
    monkeypatch.setattr(
        "notifications.realtime.hub.Hub.catch_up", lambda self, subscriber: waiting.append((self, subscriber))
    )

    def unblock():
        for each, subscriber in waiting:
            each._fanout.catch_up(subscriber)

    return unblock


async def test_welcome_and_first_sync_take_one_write(connect, user, direct_writes, set_bounds):
    set_bounds(ticks=3600)
    socket = await connect(user)
    socket.send_frame("hello", epoch=None, seq=None)
    await until(lambda: direct_writes)
    assert direct_writes.ops() == [[WELCOME, SYNC]]
    await in_thread(notify, user, "one")
    await until(lambda: len(direct_writes) == 2)
    assert direct_writes.ops()[1] == [(b"change", b"3", b"")]
    assert socket.outgoing.empty()


async def test_welcome_does_not_wait_for_a_slow_sync(
    connect, user, direct_writes, unblock_reads, short_ticks
):
    """The next tick sends it."""
    socket = await connect(user)
    socket.send_frame("hello", epoch=None, seq=None)
    await until(lambda: direct_writes)
    assert direct_writes.ops() == [[WELCOME]]
    unblock_reads()
    await until(lambda: len(direct_writes) == 2)
    assert direct_writes.ops()[1] == [SYNC]


async def test_welcome_and_first_sync_that_the_server_does_not_take(connect, user, direct_writes):
    direct_writes.is_refusing = True
    socket = await connect(user)
    await socket.start()
    assert not direct_writes


async def test_close_before_the_first_sync(connect, user, direct_writes, unblock_reads, set_bounds):
    """The reason follows the welcome that waits. A client that is signed out gets the reason only."""
    set_bounds(ticks=3600)

    def sign_out():
        Session.objects.all().delete()
        user_logged_out.send(type(user), request=None, user=user)

    for end, code, expected in (
        (lambda: in_thread(sign_out), 4401, [BYE]),
        (lambda: current_hub().close(), 4000, [WELCOME, BYE]),
    ):
        direct_writes.clear()
        socket = await connect(user)
        socket.send_frame("hello", epoch=None, seq=None)
        await until(lambda: current_hub().subscribers()[0].outbox)
        await end()
        assert (await socket._next())["code"] == code
        assert [op for ops in direct_writes.ops() for op in ops] == expected
        await socket.wait_until_closed()
