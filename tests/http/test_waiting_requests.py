"""How many requests of a user can wait, and that waiting requests hold no thread and no connection."""

import gc
import threading

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from django.db import connection, transaction

from notifications.http import waiting_requests
from notifications.realtime.hub import current_hub
from tests.realtime.conftest import in_thread, sign_in, until

pytestmark = [pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]


async def start_waiting(asgi, cookie, kind):
    """Start a long poll or an event stream. Return it when it waits."""
    if kind == "events":
        events = await asgi("events/", cookie=cookie)
        await events.start()
        return events
    before = len(current_hub().subscribers())
    poll = await asgi("sync/?wait", cookie=cookie, headers={"Prefer": "wait=20", "If-None-Match": "*"})
    await until(lambda: len(current_hub().subscribers()) > before)
    return poll


async def test_four_requests_may_wait(asgi, user, other_user):
    """Long polls and events count together for each user. The fifth gets 429 until another one ends."""
    cookie = await in_thread(sign_in, user)
    requests = [await start_waiting(asgi, cookie, kind) for kind in ("events", "poll", "poll", "events")]
    for path, headers in [("events/", {}), ("sync/", {"Prefer": "wait=1"})]:
        refused = await (await asgi(path, cookie=cookie, headers=headers)).wait_for_response()
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
    assert (await (await asgi("sync/", cookie=cookie)).wait_for_response()).status == 200
    await start_waiting(asgi, await in_thread(sign_in, other_user), "events")
    for request in requests[:2]:
        request.disconnect()
        await request.wait_until_closed()
        await start_waiting(asgi, cookie, "poll")


def test_lost_wait_slot_is_released():
    """A slot that no request refers to any more is free, although release() was not called."""
    slots = [waiting_requests.acquire_wait_slot("ada") for _ in range(waiting_requests.MAX_WAITING_REQUESTS)]
    assert all(slots) and waiting_requests.acquire_wait_slot("ada") is None
    assert waiting_requests.acquire_wait_slot("bob")
    slots.pop()
    gc.collect()
    assert "bob" not in waiting_requests._slots
    slots.append(waiting_requests.acquire_wait_slot("ada"))
    assert slots[-1] and waiting_requests.acquire_wait_slot("ada") is None
    for slot in slots:
        slot.release()
        slot.release()
    assert "ada" not in waiting_requests._slots


@pytest.mark.parametrize("kind", ["events", "poll"])
async def test_waiting_request_holds_no_thread(asgi, user, kind):
    """The thread that Django started for it has ended, if all middleware is async."""
    cookie = await in_thread(sign_in, user)
    await start_waiting(asgi, cookie, kind)  # the hub's own threads have started
    before = {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}
    # Those of workers that earlier tests of this process ran, for example.
    contexts_before = set(SyncToAsync.context_to_thread_executor)
    for _ in range(3):
        await start_waiting(asgi, cookie, kind)

    def others():
        return {
            thread
            for thread in threading.enumerate()
            if thread.name.startswith("ThreadPoolExecutor") and thread not in before
        }

    await until(lambda: not others())
    assert not set(SyncToAsync.context_to_thread_executor) - contexts_before


async def test_connections_are_closed_in_the_threads_that_opened_them(transactional_db):
    """A connection in an atomic block stays open."""

    def query():
        connection.ensure_connection()
        return connection.connection is not None

    assert await sync_to_async(query)()
    await waiting_requests.release_connections()
    assert not await sync_to_async(lambda: connection.connection is not None)()

    def close_in_transaction():
        with transaction.atomic():
            async_to_sync(waiting_requests.release_connections)()
            return connection.connection is not None

    assert await sync_to_async(close_in_transaction)()
    await waiting_requests.release_connections()
