"""Clients that connect with a cursor: the changes after it, or a snapshot if the cursor is not valid."""

import asyncio
import json

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from notifications.api import notify
from notifications.models import Epoch
from notifications.streams import build_notification, marking
from tests.realtime import rows
from tests.realtime.conftest import in_thread


async def test_missed_changes_follow_the_cursor(connect, user):
    """The sync contains each row changed after the cursor once, in its current state, in the order of seq."""
    ids = await in_thread(rows.notices, user, 3)
    await in_thread(marking.mark, user.pk, "read", 1)  # the first one moves from 1 to 4
    socket = await connect(user)
    sync = await socket.start(await in_thread(rows.read_epoch), 1)
    assert (sync["prev"], sync["seq"], sync["reset"], sync["unread"]) == (1, 4, False, 2)
    assert [(item["id"], item["seq"]) for item in sync["items"]] == [
        (str(ids[1]), 2),
        (str(ids[2]), 3),
        (str(ids[0]), 4),
    ]
    assert sync["items"][2]["raised"] == 1
    assert sync["items"][2]["read_at"]


def create_users(count):
    """Create users with 30 notifications each."""
    model = get_user_model()
    users = model.objects.bulk_create([model(username=f"user {number}") for number in range(count)])
    for number in range(30):
        notify(users, f"note {number}")
    return users


async def test_many_that_are_behind_do_not_hold_up_one_that_is_not(connect, user):
    """A read catches up some of them, and has the changes of the others between."""
    users = await in_thread(create_users, 100)
    live = await connect(user)
    await live.start()
    epoch, behind = await in_thread(rows.read_epoch), [await connect(scope_user=each) for each in users]
    caught_up = [asyncio.create_task(socket.start(epoch, 0)) for socket in behind]
    await asyncio.sleep(0)  # they have sent hello
    await in_thread(notify, user, "now")
    await in_thread(marking.mark, user.pk, "read", 1)  # which no ring carries
    while not (await live.receive("change"))["items"][0]["read_at"]:
        pass
    assert not all(task.done() for task in caught_up)
    await asyncio.gather(*caught_up)


async def test_empty_sync_without_missed_changes(connect, user):
    """A cursor at the head gets a sync without items, whose prev equals its seq."""
    await in_thread(rows.notices, user, 2)
    socket = await connect(user)
    sync = await socket.start(await in_thread(rows.read_epoch), 2)
    assert (sync["prev"], sync["seq"], sync["reset"], sync["items"]) == (2, 2, False, [])


@pytest.mark.parametrize("seq", [3, 9], ids=["below the floor", "above the head"])
async def test_invalid_cursor_gets_a_reset(connect, user, seq):
    """A cursor below the floor or above the head gets a snapshot with prev null."""
    await in_thread(rows.notices, user, 6)
    await in_thread(rows.prune, user, 4)
    socket = await connect(user)
    sync = await socket.start(await in_thread(rows.read_epoch), seq)
    assert (sync["prev"], sync["seq"], sync["reset"], len(sync["items"])) == (None, 6, True, 2)


async def test_cursor_at_the_floor_is_valid(connect, user):
    """A cursor that equals the floor gets the changes after it: all pruned rows are at or below it."""
    await in_thread(rows.notices, user, 6)
    await in_thread(rows.prune, user, 4)
    socket = await connect(user)
    sync = await socket.start(await in_thread(rows.read_epoch), 4)
    assert (sync["prev"], sync["seq"], sync["reset"]) == (4, 6, False)


async def test_other_epoch_gets_a_reset(connect, user):
    """A cursor of another epoch gets a snapshot and the current epoch."""
    await in_thread(rows.notices, user, 2)
    socket = await connect(user)
    sync = await socket.start("another epoch", 1)
    assert (sync["reset"], sync["prev"], sync["seq"]) == (True, None, 2)
    assert sync["epoch"] == await in_thread(rows.read_epoch)


async def test_new_epoch_resets_connected_clients(connect, user, short_ticks):
    """The position check finds a new epoch, as after a restored backup, without a ring."""
    socket = await connect(user)
    before = (await socket.start())["epoch"]
    await in_thread(rows.notices, user, 1)
    await socket.receive("change")
    await in_thread(Epoch.objects.update, value="0190163d-8694-739b-aea5-966c26f8ad91")
    sync = await socket.receive("sync")
    assert sync["reset"]
    assert sync["epoch"] != before
    assert len(sync["items"]) == 1


async def test_over_1000_changes_get_a_reset(connect, user):
    """A client 1,000 changes behind gets them in syncs of at most 200; one 1,001 behind gets a snapshot."""
    await in_thread(rows.notices, user, 1001)
    epoch = await in_thread(rows.read_epoch)
    far = await connect(user)
    assert (await far.start(epoch, 0))["reset"]
    near = await connect(user)
    near.send_frame("hello", epoch=epoch, seq=1)
    await near.receive("welcome")
    at, frames = 1, 0
    while True:
        sync = await near.receive("sync")
        assert (sync["prev"], sync["reset"]) == (at, False)
        assert [item["seq"] for item in sync["items"]] == list(range(at + 1, sync["seq"] + 1))
        assert len(sync["items"]) <= 200
        at, frames = sync["seq"], frames + 1
        if sync.get("ack"):
            near.send_frame("ack", n=sync["n"])
        if not sync["more"]:
            break
        assert "jobs" not in sync
    assert (at, frames) == (1001, 5)
    assert sync["jobs"] == []


async def test_notifications_and_jobs_are_merged_by_seq(connect, user):
    """A sync of 200 rows contains the 200 lowest seqs of notifications and finished jobs together."""

    def write():
        for _ in range(105):
            rows.notices(user, 1)
            rows.finish(rows.job(user))

    await in_thread(write)
    socket = await connect(user)
    socket.send_frame("hello", epoch=await in_thread(rows.read_epoch), seq=0)
    await socket.receive("welcome")
    first = await socket.receive("sync")
    assert (first["seq"], first["more"]) == (200, True)
    assert [item["seq"] for item in first["items"]] == list(range(1, 201))
    assert [item["kind"] for item in first["items"][:2]] == ["notification", "job"]
    second = await socket.receive("sync")
    assert [item["seq"] for item in second["items"]] == list(range(201, 211))


async def test_frames_are_cut_by_size(connect, user):
    """Large rows are split into frames below 128 KiB without losing a row."""
    await in_thread(rows.notices, user, 90, body="ä" * 2000)
    socket = await connect(user)
    await socket.start(await in_thread(rows.read_epoch), 0)
    syncs = [text for text in socket.raw if '"op":"sync"' in text]
    assert len(syncs) > 2
    assert all(len(text.encode()) < 128 * 1024 for text in syncs)
    seqs = [item["seq"] for text in syncs for item in json.loads(text)["items"]]
    assert seqs == list(range(1, 91))


async def test_snapshot_has_newest_50_unarchived(connect, user):
    """A snapshot has the newest 50 unarchived notifications in the order of raised, also if they changed later."""
    ids = await in_thread(rows.notices, user, 60)
    await in_thread(rows.notices, user, 1, key="same")
    await in_thread(rows.notices, user, 1, key="same")  # archives the one before
    await in_thread(marking.mark, user.pk, "read", 62, [ids[30]])
    socket = await connect(user)
    sync = await socket.start()
    assert [item["raised"] for item in sync["items"]] == [*range(12, 61), 63]
    assert not sync["more"]
    assert sync["seq"] == 64
    assert sync["items"][31 - 12]["seq"] == 64


async def test_snapshot_is_limited_in_size(connect, user):
    """A snapshot of large rows has the newest ones that fit in 64 KiB."""
    await in_thread(rows.notices, user, 50, body="ä" * 2000)
    socket = await connect(user)
    sync = await socket.start()
    assert sync["items"][-1]["raised"] == 50
    assert 10 < len(sync["items"]) < 20
    assert [item["raised"] for item in sync["items"]] == list(range(51 - len(sync["items"]), 51))


async def test_snapshot_numbers_pending_changes(connect, user):
    """A committed row without a seq is numbered and included in the snapshot."""

    def leave_unnumbered():
        with transaction.atomic():
            row = build_notification(user.pk, "left")
            row.save(force_insert=True)

    await in_thread(leave_unnumbered)
    socket = await connect(user)
    sync = await socket.start()
    assert ([item["title"] for item in sync["items"]], sync["seq"]) == (["left"], 1)


async def test_sync_sets_the_position(connect, user):
    """A sync frame moves the position: to the head (no items), back (the changes after it), above the head (reset)."""
    await in_thread(rows.notices, user, 3)
    socket = await connect(user)
    await socket.start()
    socket.send_frame("sync", seq=3)
    empty = await socket.receive("sync")
    assert (empty["prev"], empty["seq"], empty["items"], empty["more"]) == (3, 3, [], False)
    socket.send_frame("sync", seq=1)
    again = await socket.receive("sync")
    assert (again["prev"], [item["seq"] for item in again["items"]]) == (1, [2, 3])
    socket.send_frame("sync", seq=99)
    assert (await socket.receive("sync"))["reset"]


async def test_sync_during_catch_up_sets_the_position(connect, user):
    """A sync frame sent during the catch-up moves the position, and later frames continue from it."""
    await in_thread(rows.notices, user, 450)
    socket = await connect(user)
    socket.send_frame("hello", epoch=await in_thread(rows.read_epoch), seq=0)
    socket.send_frame("sync", seq=400)
    await socket.receive("welcome")
    sync = await socket.receive("sync")
    assert (sync["prev"], sync["seq"], sync["more"]) == (400, 450, False)
    assert (await socket.receive_beat_only())["seq"] == 450


async def test_items_and_jobs_in_two_frames(connect, user):
    """If items and active jobs exceed 128 KiB, the jobs come in a second frame without items."""

    def write():
        rows.notices(user, 30, body="ä" * 2000)
        rows.jobs(user, 100, title="ä" * 200)

    await in_thread(write)
    socket = await connect(user)
    final = await socket.start(await in_thread(rows.read_epoch), 0)
    sizes = [len(text.encode()) for text in socket.raw if '"op":"sync"' in text]
    assert len(sizes) == 2
    assert max(sizes) < 128 * 1024 < sum(sizes)
    assert (final["prev"], final["seq"], final["items"]) == (30, 30, [])
    assert final["jobs"]
