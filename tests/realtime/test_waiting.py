"""How many requests of a user may wait, and what they hold while they do: no thread and no connection."""

import gc
import threading

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connection, transaction

from notifications.http import request_resources, wait_slots
from notifications.realtime import hub
from tests.realtime.conftest import in_thread, sign_in, until


async def wait_for(ask, cookie, way):
    """A request that waits."""
    if way == "events":
        events = await ask("events/", cookie=cookie)
        await events.start()
        return events
    before = len(hub.current_hub().subscribers())
    asked = await ask("sync/?wait", cookie=cookie, headers={"Prefer": "wait=20", "If-None-Match": "*"})
    await until(lambda: len(hub.current_hub().subscribers()) > before)
    return asked


async def test_four_requests_may_wait(ask, user, other):
    """Long polls and events together, by user; the fifth is told so, and one that ends makes room."""
    cookie = await in_thread(sign_in, user)
    requests = [await wait_for(ask, cookie, way) for way in ("events", "poll", "poll", "events")]
    for path, headers in [("events/", {}), ("sync/", {"Prefer": "wait=1"})]:
        refused = await (await ask(path, cookie=cookie, headers=headers)).wait_for_response()
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
    assert (await (await ask("sync/", cookie=cookie)).wait_for_response()).status == 200
    await wait_for(ask, await in_thread(sign_in, other), "events")
    for request in requests[:2]:
        request.disconnect()
        await request.wait_until_closed()
        await wait_for(ask, cookie, "poll")


def test_lost_wait_slot_is_released():
    """Also where a request ends before anything could say so."""
    seats = [wait_slots.acquire_wait_slot("ada") for _ in range(wait_slots.MAX_WAITING_REQUESTS)]
    assert all(seats) and wait_slots.acquire_wait_slot("ada") is None
    assert wait_slots.acquire_wait_slot("bob")
    seats.pop()
    gc.collect()
    seats.append(wait_slots.acquire_wait_slot("ada"))
    assert seats[-1] and wait_slots.acquire_wait_slot("ada") is None
    for seat in seats:
        seat.release()
        seat.release()
    assert "ada" not in wait_slots._slots


@pytest.mark.parametrize("way", ["events", "poll"])
async def test_waiting_request_holds_no_thread(ask, user, way):
    """The one that Django gave it has ended, where all middleware is async."""
    cookie = await in_thread(sign_in, user)
    await wait_for(ask, cookie, way)  # the hub's own threads have started
    before = {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}
    for _ in range(3):
        await wait_for(ask, cookie, way)

    def others():
        return {
            thread
            for thread in threading.enumerate()
            if thread.name.startswith("ThreadPoolExecutor") and thread not in before
        }

    await until(lambda: not others())
    assert not SyncToAsync.context_to_thread_executor


async def test_connections_are_closed_in_the_threads_that_opened_them(transactional_db):
    """Not in an atomic block, whose work would be lost."""

    def query():
        connection.ensure_connection()
        return connection.connection is not None

    assert await sync_to_async(query)()
    await request_resources.release_connections()
    assert not await sync_to_async(lambda: connection.connection is not None)()

    def inside():
        with transaction.atomic():
            request_resources.close_connections()
            return connection.connection is not None

    assert await sync_to_async(inside)()
    await request_resources.release_connections()
