"""Acks, the window, lagging, and what bounds the memory of a client that does not read."""

import asyncio
import json
from itertools import accumulate

import pytest

from notifications.api import notify
from notifications.realtime import clock, hub
from notifications.realtime.servers import daphne_writer
from notifications.realtime.transports import websocket
from tests.realtime import rows
from tests.realtime.conftest import blocked, in_thread, until


async def receive_change(socket, title):
    """Return the next frame, a change with this title."""
    frame = await socket.receive("change")
    assert [item["title"] for item in frame["items"]] == [title]
    return frame


async def send_one(socket, user, title):
    await in_thread(notify, user, title)
    return await receive_change(socket, title)


@pytest.mark.parametrize("first", [1, 2, 9, 16])
async def test_every_16th_frame_requests_an_ack(connect, user, set_first_ack, first):
    """n counts welcome, sync, change and jobs; ack is absent otherwise."""
    set_first_ack(first)
    socket = await connect(user)
    await socket.start()
    for number in range(3, 49):
        frame = await send_one(socket, user, f"note {number}")
        assert frame["n"] == number
    for number, text in enumerate(socket.raw, 1):
        frame = json.loads(text)
        assert ("ack" in frame) == (number % 16 == first % 16), number
        if "ack" in frame:
            assert list(frame)[:3] == ["op", "n", "ack"]
            assert frame["ack"] is True


async def test_first_requested_ack_is_random(connect, user, set_first_ack):
    """With each of the first 16 frames, so that sockets that all get the same frames do not all ack at once."""
    set_first_ack(None)
    await connect(user)
    mine = hub.current_hub().subscribers()[0]
    found = set()
    for _ in range(1000):
        one = websocket.Socket(mine.hub, user.pk, None, mine.send)
        found.add(one.next_ack_n)
    assert found == set(range(1, 17))


async def test_ack_is_requested_after_64_kib(connect, user):
    """Bytes of the whole text, counted anew after each ask."""
    socket = await connect(user)
    await socket.start()
    for number in range(60):
        await send_one(socket, user, f"note {number}") if number % 7 == 0 else await in_thread(
            rows.notices, user, 3, body="ä" * 2000
        )
        if number % 7:
            await socket.receive("change")
        socket.ack_if_requested(json.loads(socket.raw[-1]))
    total = count = 0
    for text in socket.raw:
        total, count = total + len(text.encode()), count + 1
        asked = '"ack":true' in text[:40]
        assert asked == (total >= 64 * 1024 or count == 16), (total, count)
        if asked:
            total = count = 0


async def test_full_window_stops_live_frames_until_an_ack(connect, user):
    """After 64 frames nothing but beats is sent; the ack is answered by sync frames from the position."""
    socket = await connect(user)
    await socket.start()
    for number in range(3, 65):
        await send_one(socket, user, f"note {number}")
    missed = [f"missed {number}" for number in range(3)]
    for title in missed:
        await in_thread(notify, user, title)
    job = await in_thread(rows.job, user)
    mine = hub.current_hub().subscribers()[0]
    await until(lambda: mine.needs_sync)
    assert (await socket.receive_beat_only())["seq"] == 62
    socket.send_frame("ack", n=16)
    sync = await socket.receive("sync")
    assert (sync["n"], sync["prev"], sync["seq"], sync["reset"]) == (65, 62, 65, False)
    assert [item["title"] for item in sync["items"]] == missed
    assert [item["id"] for item in sync["jobs"]] == [str(job.pk)]
    assert (await send_one(socket, user, "live again"))["prev"] == 65


async def test_jobs_frame_without_room_is_replaced_by_sync(connect, user):
    """Active jobs are in the sync that follows the ack, as they are then."""
    socket = await connect(user)
    await socket.start()
    job = await in_thread(rows.job, user)
    await socket.receive("jobs")
    for step in range(62):
        await in_thread(rows.change, job, progress_current=step)
        if step < 61:
            await socket.receive("jobs")
    await until(lambda: hub.current_hub().subscribers()[0].needs_sync)
    socket.send_frame("ack", n=64)
    sync = await socket.receive("sync")
    assert (sync["prev"], sync["seq"], sync["items"]) == (0, 0, [])
    assert [item["version"] for item in sync["jobs"]] == [63]


async def test_window_is_limited_to_256_kib(connect, user):
    """Large frames fill it before 64 of them are sent."""
    socket = await connect(user)
    await socket.start()
    for _ in range(6):
        await in_thread(rows.notices, user, 12, body="ä" * 2000)
    mine = hub.current_hub().subscribers()[0]
    await until(lambda: mine.needs_sync)
    sent = 0
    while not socket.outgoing.empty():
        await socket.receive()
    sent = sum(len(text.encode()) for text in socket.raw)
    assert 200 * 1024 < sent <= 256 * 1024
    assert (mine.sent_bytes, mine.acked_bytes) == (sent, 0)


async def test_one_frame_may_always_be_sent(connect, user, monkeypatch):
    """A frame larger than the window goes when nothing is outstanding."""
    monkeypatch.setattr(websocket, "WINDOW_BYTES", 1000)
    socket = await connect(user)
    await in_thread(rows.notices, user, 20)
    socket.send_frame("hello")
    await socket.receive("welcome")
    socket.send_frame("ack", n=1)
    assert len((await socket.receive("sync"))["items"]) == 20


async def test_old_ack_has_no_effect(connect, user):
    """Not higher than before: no effect; it counts as a frame all the same."""
    socket = await connect(user)
    await socket.start()
    mine = hub.current_hub().subscribers()[0]
    socket.send_frame("ack", n=2)
    await until(lambda: mine.unacked_ends == [])
    for number in range(3):
        await send_one(socket, user, f"note {number}")
    before = (mine.unacked_ends.copy(), mine.acked_bytes)
    assert before == ([*accumulate(map(len, socket.raw))][2:], sum(map(len, socket.raw[:2])))
    for n in (2, 1, 0):
        socket.send_frame("ack", n=n)
    await socket.receive_beat_only()
    assert (mine.unacked_ends, mine.acked_bytes) == before


async def test_ack_above_last_frame_is_refused(connect, user):
    """bad_ack."""
    socket = await connect(user)
    await socket.start()
    socket.send_frame("ack", n=3)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"], bye["after_ms"]) == (4400, "bad_ack", False, 0)


async def test_late_ack_closes_the_connection(connect, user, monkeypatch):
    """too_slow, also when a later frame was asked for since; a client that acks stays."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(websocket, "ACK_TIMEOUT_SECONDS", 0.3)
    slow, quick = await connect(user), await connect(user)
    await slow.start()
    await quick.start()
    for number in range(3, 18):
        await send_one(slow, user, f"note {number}")
        quick.ack_if_requested(await quick.receive("change"))
    bye = await slow.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4408, "too_slow", True)
    assert (await quick.receive_beat_only())["seq"] == 15


async def test_each_ack_has_its_own_deadline(connect, user, monkeypatch):
    """The first in time does not excuse the second."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(websocket, "ACK_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(websocket, "MAX_FRAMES_BETWEEN_ACKS", 3)
    socket = await connect(user)
    await socket.start()
    for number in range(3, 7):
        await send_one(socket, user, f"note {number}")
    socket.send_frame("ack", n=3)
    assert (await socket.receive_bye())["reason"] == "too_slow"


async def test_beats_are_periodic_also_with_full_window(connect, user, monkeypatch):
    """With the position, to which everything was sent before."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr("notifications.realtime.frames.BEAT_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(websocket, "WINDOW_FRAMES", 3)
    socket = await connect(user)
    await socket.start()
    assert (await socket.receive("beat"))["seq"] == 0
    await in_thread(notify, user, "seen")
    while (await socket.receive())["op"] == "beat":
        pass
    await in_thread(notify, user, "not seen")
    await until(lambda: hub.current_hub().subscribers()[0].needs_sync)
    for _ in range(3):
        assert await socket.receive() == {"op": "beat", "seq": 1}


async def test_ping_before_first_sync_is_answered_after_it(connect, user):
    """Several share one beat."""
    await in_thread(rows.notices, user, 2)
    socket = await connect(user)
    socket.send_frame("hello")
    socket.send_frame("ping")
    socket.send_frame("ping")
    await socket.receive("welcome")
    await socket.receive("sync")
    assert await socket.receive("beat") == {"op": "beat", "seq": 2}


async def test_slow_client_is_bounded_and_delays_no_other(connect, user):
    """A socket that takes nothing: the others go on, and what waits for it stays within the window."""
    stuck, quick = await connect(user), await connect(user)
    await stuck.start()
    await quick.start()
    mine = next(
        one for one in hub.current_hub().subscribers() if one.last_n == 2 and one.send.__self__ is stuck
    )
    async with blocked(stuck):
        for number in range(100):
            quick.ack_if_requested(await send_one(quick, user, f"note {number}"))
            stuck.send_frame("ping") if number % 20 == 0 else None
        await until(lambda: mine.needs_sync)
        # A beat between two frames at most.
        assert len(mine.outbox) <= 2 * websocket.WINDOW_FRAMES
    frames = []
    while len(frames) < 62:
        frame = await stuck.receive()
        frames += [frame] if frame["op"] == "change" else []
    assert [frame["seq"] for frame in frames] == list(range(1, 63))


async def test_stuck_client_is_dropped(connect, user, monkeypatch):
    """A bye that cannot be sent does not keep the connection: the application ends."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_SECONDS", 0.1)
    socket = await connect(user)
    await socket.start()
    socket.unblocked.clear()
    socket.send_text("no json")
    await socket.wait_until_closed()
    assert hub.current_hub().subscribers() == []


@pytest.mark.parametrize("count", [60, 61])
async def test_rate_limit_of_frames(connect, user, count):
    """The 61st is too many, hello counts."""
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


async def test_requested_acks_do_not_count(connect, user, monkeypatch):
    """A client that is sent much may ack much."""
    monkeypatch.setattr(websocket, "MAX_FRAMES_BETWEEN_ACKS", 1)
    monkeypatch.setattr(websocket, "RATE_FRAMES", 2)
    socket = await connect(user)
    await socket.start()
    socket.send_frame("ack", n=1)
    socket.send_frame("ack", n=2)
    for number in range(5):
        socket.ack_if_requested(await send_one(socket, user, f"note {number}"))
    await socket.receive_beat_only()
    socket.send_frame("ack", n=1)
    assert (await socket.receive_bye())["reason"] == "too_many_frames"


async def test_rate_limits_expire(connect, user, monkeypatch):
    """Only the last ten seconds count."""
    monkeypatch.setattr(websocket, "RATE_SECONDS", 0.05)
    monkeypatch.setattr(websocket, "RATE_FRAMES", 2)
    socket = await connect(user)
    await socket.start()
    for _ in range(5):
        await asyncio.sleep(0.06)
        await socket.receive_beat_only()


async def test_rate_limit_of_syncs(connect, user):
    """The eleventh is too many."""
    socket = await connect(user)
    await socket.start()
    for _ in range(10):
        socket.send_frame("sync", seq=0)
        assert (await socket.receive("sync"))["seq"] == 0
    socket.send_frame("sync", seq=0)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"]) == (4429, "too_many_syncs")
    assert bye["after_ms"] >= 30_000


async def test_direct_writes_do_not_overtake_pending_frames(connect, user, monkeypatch):
    """Frames have a short way at a server that offers one, but not past a frame that the server has not taken yet."""
    short = []
    monkeypatch.setattr(
        daphne_writer, "writer_of", lambda send: lambda frame: bool(short) and (short.append(frame) or True)
    )
    socket = await connect(user)
    await socket.start()
    async with blocked(socket):
        await in_thread(notify, user, "one")
        await until(lambda: hub.current_hub().subscribers()[0].position == 1)
        short.append("open")
        await in_thread(notify, user, "two")
        await until(lambda: hub.current_hub().subscribers()[0].position == 2)
    for title in ("one", "two"):
        await receive_change(socket, title)
    assert short == ["open"]
    await in_thread(notify, user, "three")
    await until(lambda: len(short) == 2)
    assert json.loads(short[1][4:])["items"][0]["title"] == "three"
