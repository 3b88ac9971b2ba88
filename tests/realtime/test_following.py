"""Frames to a connected client: the snapshot, live changes, and active jobs."""

import asyncio
from functools import partial

from django.db import OperationalError

from notifications import streams
from notifications.api import notify
from notifications.http import encode_json
from notifications.models import Stream
from notifications.streams import build_notification, marking
from tests.data.rows import job as enqueue
from tests.realtime import rows
from tests.realtime.auth.test_sign_outs import in_other_thread, no_rings
from tests.realtime.conftest import in_thread

#: What the statements have that read the changes of streams, and active jobs.
READ_MISSED, READ_ACTIVE_JOBS = "positions AS MATERIALIZED", "AS raw_id"


async def test_hello_without_position_starts_with_snapshot(connect, user):
    """A hello without a cursor gets a welcome, then a sync with reset and the newest notifications."""
    first, second = [(await in_thread(notify, user, title))[0] for title in ("first", "second")]
    socket = await connect(user)
    socket.send_frame("hello")
    welcome = await socket.receive("welcome")
    assert welcome == {
        "op": "welcome",
        "n": 1,
        "subscriber": welcome["subscriber"],
        "protocol": 1,
        "beat": 25,
    }
    sync = await socket.receive("sync")
    assert list(sync) == [
        "op",
        "n",
        "epoch",
        "prev",
        "seq",
        "reset",
        "more",
        "unread",
        "unseen",
        "items",
        "jobs",
    ]
    assert (sync["n"], sync["prev"], sync["seq"], sync["reset"], sync["more"]) == (2, None, 2, True, False)
    assert (sync["unread"], sync["jobs"]) == (2, [])
    assert [item["id"] for item in sync["items"]] == [str(first), str(second)]


async def test_notification_is_pushed(connect, user):
    """A notification of a connected client's user is sent as one change whose prev is the client's position."""
    socket = await connect(user)
    assert (await socket.start())["seq"] == 0
    [id] = await in_thread(
        notify, user, "Export ready", body="12,400 rows", url="/exports/7/", level="success"
    )
    change = await socket.receive("change")
    assert list(change) == ["op", "n", "prev", "seq", "unread", "unseen", "items"]
    assert (change["n"], change["prev"], change["seq"], change["unread"]) == (3, 0, 1, 1)
    [item] = change["items"]
    assert item == {
        "kind": "notification",
        "id": str(id),
        "seq": 1,
        "raised": 1,
        "level": "success",
        "category": "",
        "title": "Export ready",
        "body": "12,400 rows",
        "url": "/exports/7/",
        "job": None,
        "created_at": item["created_at"],
        "read_at": None,
        "archived_at": None,
        "data": {},
    }
    assert item["created_at"].endswith("Z")


async def test_only_the_recipient_gets_it(connect, user, other_user):
    """A socket gets the changes of its own user only."""
    user_socket, other_socket = await connect(user), await connect(other_user)
    await user_socket.start()
    await other_socket.start()
    await in_thread(notify, other_user, "for Bob")
    assert (await other_socket.receive("change"))["items"][0]["title"] == "for Bob"
    assert (await user_socket.receive_beat_only())["seq"] == 0


async def test_all_sockets_of_a_user_get_the_same(connect, user):
    """Two sockets of a user get equal frames for a change."""
    first, second = await connect(user), await connect(user)
    await first.start()
    await second.start()
    await in_thread(notify, user, "for both")
    assert await first.receive("change") == await second.receive("change")


async def test_changes_have_no_gaps(connect, user):
    """The prev of each change is the seq of the one before, for notifications, marking as read and finished jobs."""
    socket = await connect(user)
    at = (await socket.start())["seq"]
    job = await in_thread(rows.job, user)
    await socket.receive("jobs")
    for write in (
        lambda: rows.notices(user, 3),
        lambda: marking.mark(user.pk, "read", 2),
        lambda: rows.finish(job),
        lambda: rows.notices(user, 1),
    ):
        await in_thread(write)
        head = (await in_thread(Stream.objects.get, pk=user.pk)).head
        while at < head:
            change = await socket.receive("change")
            assert change["prev"] == at
            at = change["seq"]
    assert change["unread"] == 2


async def test_change_of_many_rows_is_sent_as_syncs(connect, user):
    """A change of more rows than one read returns, 200, is sent as syncs; later changes are live again."""
    socket = await connect(user)
    await socket.start()
    with no_rings():  # of each pass of the numbering
        await in_thread(rows.notices, user, 250)
    await in_thread(streams.ring, [user.pk])
    frames = [await socket.receive("sync") for _ in range(2)]
    assert [(frame["prev"], frame["seq"], frame["more"]) for frame in frames] == [
        (0, 200, True),
        (200, 250, False),
    ]
    await in_thread(notify, user, "live")
    assert (await socket.receive("change"))["prev"] == 250


async def test_changes_of_active_jobs_are_sent(connect, user):
    """A queued, running or progressing job is sent once per version, at the same position; its end is a change."""
    socket = await connect(user)
    await socket.start()
    job = await in_thread(rows.job, user, title="Check 3 URLs", url="/reports/1/")
    frame = await socket.receive("jobs")
    assert list(frame) == ["op", "n", "jobs"]
    assert [(item["id"], item["state"], item["seq"], item["version"]) for item in frame["jobs"]] == [
        (str(job.pk), "queued", 0, 1)
    ]
    await in_thread(rows.change, job, state="running", attempt=1, progress_current=1, progress_total=3)
    [item] = (await socket.receive("jobs"))["jobs"]
    assert (item["state"], item["version"]) == ("running", 2)
    assert item["progress"] == {"current": 1, "total": 3, "message": ""}
    assert (await socket.receive_beat_only())["seq"] == 0
    await in_thread(rows.finish, job)
    change = await socket.receive("change")
    [item] = change["items"]
    assert (item["kind"], item["state"], item["done"], item["seq"], item["version"]) == (
        "job",
        "succeeded",
        True,
        1,
        3,
    )
    assert (change["prev"], change["seq"]) == (0, 1)


async def test_only_changed_jobs_are_sent(connect, user):
    """A jobs frame contains only the jobs that changed."""
    socket = await connect(user)
    await socket.start()
    first, second = [await in_thread(rows.job, user) for _ in range(2)]
    received = []
    while len(received) < 2:
        received += (await socket.receive("jobs"))["jobs"]
    await in_thread(rows.change, second, progress_current=5)
    assert [item["id"] for item in (await socket.receive("jobs"))["jobs"]] == [str(second.pk)]
    await in_thread(rows.change, first, progress_current=6)
    assert [item["id"] for item in (await socket.receive("jobs"))["jobs"]] == [str(first.pk)]


async def test_first_sync_has_the_active_jobs(connect, user):
    """The first sync has the newest active jobs, at most 100 and 48 KiB, newest first."""
    made = await in_thread(rows.jobs, user, 110)
    socket = await connect(user)
    sync = await socket.start()
    assert [item["id"] for item in sync["jobs"]] == [str(job.pk) for job in made[::-1][: len(sync["jobs"])]]
    assert 40 < len(sync["jobs"]) <= 100
    assert len(",".join(map(encode_json, sync["jobs"]))) <= 48 * 1024
    await in_thread(rows.change, made[-1], progress_current=1)
    assert [item["id"] for item in (await socket.receive("jobs"))["jobs"]] == [str(made[-1].pk)]


async def test_nothing_is_lost_between_start_and_first_ring(connect, user):
    """Clients that connect while a job changes continuously all receive its last version."""
    job = await in_thread(rows.job, user)

    async def change_repeatedly():
        for step in range(30):
            await in_thread(rows.change, job, progress_current=step)

    changing = asyncio.create_task(change_repeatedly())
    started = []
    for _ in range(8):
        socket = await connect(user)
        started.append((socket, (await socket.start())["jobs"][0]["version"]))
    await changing
    for socket, version in started:
        while version < 31:
            frame = await socket.receive("jobs")
            socket.ack_if_requested(frame)
            assert frame["jobs"][0]["version"] > version
            version = frame["jobs"][0]["version"]


async def test_lost_ring_only_delays(connect, user, short_ticks):
    """Without rings, the position check finds changes and active jobs."""
    socket = await connect(user)
    await socket.start()
    with no_rings():
        await in_thread(notify, user, "without a ring")
        assert (await socket.receive("change"))["items"][0]["title"] == "without a ring"
        job = await in_thread(enqueue, user)
        assert (await socket.receive("jobs"))["jobs"][0]["id"] == str(job.pk)
        await in_thread(rows.change, job, state="running")
        assert (await socket.receive("jobs"))["jobs"][0]["state"] == "running"


async def test_pending_changes_are_numbered_every_second(connect, user, short_ticks):
    """A row that a killed process left without a seq is numbered by another process, and sent."""
    socket = await connect(user)
    await socket.start()
    await in_thread(build_notification(user.pk, "left").save)
    assert (await socket.receive("change"))["items"][0]["title"] == "left"


async def test_failed_read_is_retried(wrap_statements, connect, user):
    """If reading changes fails, it is retried, and the change is sent."""
    socket = await connect(user)
    await socket.start()
    failures = [OperationalError("gone"), OperationalError("gone")]

    def fail_twice(execute, sql, *args):
        if READ_MISSED in sql and failures:
            raise failures.pop()
        return execute(sql, *args)

    wrap_statements(fail_twice)
    await in_thread(notify, user, "through")
    assert (await socket.receive("change"))["items"][0]["title"] == "through"
    assert not failures


async def test_job_that_changes_during_a_read_for_another_client(wrap_statements, connect, user):
    """If reading for a new client finds a new version of a job, connected clients are sent it too."""
    job = await in_thread(rows.job, user)
    socket = await connect(user)
    await socket.start()
    unchanged = [job]

    def change_before_read(execute, sql, *args):
        while READ_ACTIVE_JOBS in sql and unchanged:
            in_other_thread(partial(rows.change, unchanged.pop(), state="running"))
        return execute(sql, *args)

    wrap_statements(change_before_read)
    with no_rings():  # the ring is lost or late
        second = await connect(user)
        assert (await second.start())["jobs"][0]["version"] == 2
        assert (await socket.receive("jobs"))["jobs"][0]["version"] == 2
