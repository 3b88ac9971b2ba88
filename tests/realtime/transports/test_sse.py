"""Server-Sent Events: events, start positions, and the end of a response."""

import asyncio

import pytest
from django.db import OperationalError

from notifications.api import notify
from notifications.realtime import hub
from notifications.realtime.hub import current_hub
from notifications.realtime.transports import sse
from tests.realtime import rows
from tests.realtime.conftest import block_sends, in_thread, sign_in, until

ALL_MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]


async def test_each_frame_is_an_event(send_request, connect, user):
    """Events are named by op and have a socket's data without n; only sync and change have an id."""
    await in_thread(notify, user, "before")
    job = await in_thread(rows.job, user)
    events, socket = await send_request("events/", user), await connect(user)
    sync = await events.start()
    epoch = await in_thread(rows.read_epoch)
    expected = await socket.start()
    assert sync["id"] == f"{epoch}:1"
    assert sync["data"] == {key: value for key, value in expected.items() if key != "n"}
    assert (sync["data"]["op"], sync["data"]["reset"], len(sync["data"]["jobs"])) == ("sync", True, 1)
    for write, args, op in [(rows.change, (job,), "jobs"), (notify, (user, "x\ny\r\u2028ä"), "change")]:
        await in_thread(write, *args, **({"state": "running"} if op == "jobs" else {}))
        expected, event = await socket.receive(op), await events.receive(op)
        assert event["data"] == {key: value for key, value in expected.items() if key not in ("n", "ack")}
        assert event.get("id") == (f"{epoch}:2" if op == "change" else None)


async def test_headers_prevent_caching_and_buffering(send_request, user):
    """The headers forbid caches to store the response and nginx to buffer it."""
    events = await (await send_request("events/", user)).wait_for_response()
    assert events.headers["cache-control"] == "no-store"
    assert events.headers["x-accel-buffering"] == "no"
    assert "Cookie" in events.headers["vary"]


@pytest.mark.parametrize(
    ("query", "last", "prev"),
    [
        ("", None, None),
        ("?epoch={epoch}&seq=1", None, 1),
        ("?epoch={epoch}", None, None),
        ("?seq=1", None, None),
        ("?epoch=other&seq=1", None, None),
        ("?epoch={epoch}&seq=1", "{epoch}:2", 2),
        ("", "{epoch}:2", 2),
        ("?epoch={epoch}&seq=1", "other:2", None),
        ("?epoch={epoch}&seq=1", "", 1),
        ("?epoch={epoch}&seq=1", "2", 1),
        ("?epoch={epoch}&seq=1", "{epoch}:", 1),
        ("?epoch={epoch}&seq=1", ":2", 1),
        ("?epoch={epoch}&seq=1", "{epoch}:-2", 1),
        ("?epoch={epoch}&seq=1", "{epoch}:2.0", 1),
        ("?epoch={epoch}&seq=1", "{epoch}:9007199254740992", 1),
        ("?epoch={epoch}&seq=1", "{epoch}:99999999999999999999999", 1),
    ],
)
async def test_start_position(send_request, user, query, last, prev):
    """Last-Event-ID takes precedence over the query; an invalid one is ignored."""
    await in_thread(rows.notices, user, 3)
    epoch = await in_thread(rows.read_epoch)
    headers = {"Last-Event-ID": last.format(epoch=epoch)} if last is not None else {}
    sync = await (await send_request(f"events/{query.format(epoch=epoch)}", user, headers=headers)).start()
    assert (sync["data"]["prev"], sync["data"]["seq"], sync["data"]["reset"]) == (prev, 3, prev is None)
    assert sync["id"] == f"{epoch}:3"


async def test_invalid_position_in_query(send_request, user):
    """An invalid seq in the query gets 422 with the name of the field."""
    events = await (await send_request("events/?seq=x&epoch=e", user)).wait_for_response()
    assert (events.status, (await events.json())["errors"][0]["field"]) == (422, "seq")


async def test_long_catch_up_has_several_events(send_request, user, monkeypatch):
    """A catch-up of several frames has one event each, with the id to resume from."""
    await in_thread(rows.notices, user, 450)
    epoch = await in_thread(rows.read_epoch)
    events = await (await send_request(f"events/?epoch={epoch}&seq=0", user)).wait_for_response()
    await events.receive()
    received = [await events.receive("sync") for _ in range(3)]
    assert [(event["id"], event["data"]["more"]) for event in received] == [
        (f"{epoch}:200", True),
        (f"{epoch}:400", True),
        (f"{epoch}:450", False),
    ]


async def test_anonymous_client(send_request, transactional_db):
    """An anonymous client gets 204, after which an EventSource does not reconnect."""
    events = await (await send_request("events/")).wait_for_response()
    assert (events.status, await events.read_body()) == (204, b"")
    assert events.headers["cache-control"] == "no-store"


async def test_method_not_allowed(send_request, user):
    """POST gets 405 if signed in, else 401; HEAD gets the headers without waiting."""
    events = await (await send_request("events/", user, method="POST")).wait_for_response()
    assert (events.status, events.headers["allow"]) == (405, "GET, HEAD")
    assert (await (await send_request("events/", method="POST")).wait_for_response()).status == 401
    head = await (await send_request("events/", user, method="HEAD")).wait_for_response()
    assert (head.status, await head.read_body(), head.headers["content-type"]) == (
        200,
        b"",
        "text/event-stream",
    )


async def test_database_outage(send_request, user, monkeypatch):
    """An unreachable database gets 503, not 204, which would stop the EventSource."""

    def fail(*args):
        raise OperationalError("gone")

    cookie = await in_thread(sign_in, user)
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", fail)
    events = await (await send_request("events/", cookie=cookie)).wait_for_response()
    assert (events.status, events.headers["retry-after"]) == (503, "2")


def test_wsgi_is_not_supported(user_client, transactional_db):
    """On WSGI the response is 501, and its detail names sync/ as the alternative."""
    response = user_client.get("/notifications/api/events/")
    assert (response.status_code, response["Content-Type"]) == (501, "application/problem+json")
    assert "sync/" in response.json()["detail"]


async def test_project_with_other_settings(send_request, user, settings, monkeypatch):
    """Events are sent immediately, also with ATOMIC_REQUESTS and middleware that requires login or compresses."""
    settings.MIDDLEWARE = ALL_MIDDLEWARE
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    events = await send_request("events/", user, headers={"Accept-Encoding": "gzip"})
    await events.start()
    await in_thread(notify, user, "now")
    assert (await events.receive("change"))["data"]["items"][0]["title"] == "now"
    assert (await (await send_request("events/")).wait_for_response()).status == 204
    assert (await (await send_request("sync/", user)).wait_for_response()).status == 200


async def test_comments_keep_the_connection_open(send_request, user, set_bounds, short_ticks):
    """A comment is sent every 15 seconds, which keeps proxies from closing the connection."""
    assert sse.COMMENT_INTERVAL_SECONDS == 15
    # Authenticators are asked again as often: an unanswered stream is ended after two intervals.
    assert sse.MAX_UNCONFIRMED_SECONDS == 30
    set_bounds(beats=0.1)
    events = await send_request("events/", user)
    await events.wait_for_response()
    assert await events.receive() == {"retry": "3000"}
    received = []
    while len(received) < 4 or "sync" not in received:  # On a busy machine comments may come before the sync.
        event = await events.receive()
        received.append(event.get("event", event))
    received.remove("sync")
    assert received == [{"comment": ""}] * len(received)


async def test_response_ends_after_5_minutes(send_request, user, short_ticks):
    """A response ends after 5 minutes without a bye, so that the EventSource reconnects."""
    events = await send_request("events/", user)
    await events.start()
    [stream] = current_hub().subscribers()
    assert 200 < stream.end_at - asyncio.get_running_loop().time() <= 300
    stream.end_at = 0.0
    assert await events.receive() is None
    await events.wait_until_closed()
    assert current_hub().subscribers() == []


async def test_response_ends_after_256_kib(send_request, user):
    """A response ends after 256 KiB, and a client that reconnects with the last id gets the rest."""
    await in_thread(rows.notices, user, 200, body="ä" * 2000)
    epoch = await in_thread(rows.read_epoch)
    received, last_id, responses = [], f"{epoch}:0", 0
    while len(received) < 200:
        events = await (
            await send_request("events/", user, headers={"Last-Event-ID": last_id})
        ).wait_for_response()
        responses += 1
        await events.receive()
        sizes = []
        while True:
            before = events.size - len(events.body)
            event = await events.receive()
            if event is None:
                break
            sizes.append(before)
            last_id = event.get("id", last_id)
            received += [item["seq"] for item in event["data"]["items"]]
            if len(received) == 200:
                break
        assert sizes[-1] <= 256 * 1024
        if len(received) < 200:
            assert events.size > 256 * 1024
            assert events.size < (256 + 128) * 1024 + 1000
    assert received == list(range(1, 201))
    assert responses == 3


async def test_pending_events_of_slow_client_are_bounded(send_request, user):
    """Events that the server has not accepted are bounded in size; above the bound the response ends."""
    events = await send_request("events/", user)
    await events.start()
    stream = current_hub().subscribers()[0]
    async with block_sends(events):
        for _ in range(12):
            await in_thread(rows.notices, user, 20, body="b" * 2000)
            await until(lambda: stream.is_closed or stream.position % 20 == 0)
        await until(lambda: stream.is_closed)
        assert 256 * 1024 < sum(map(len, stream.pending_chunks)) + 65536 < (256 + 128 + 64) * 1024
        assert current_hub().subscribers() == []
    while (event := await events.receive()) is not None:
        last = event["data"]["seq"]
    assert last < 240


@pytest.mark.parametrize("notes", [0, 1])
async def test_stuck_client_is_dropped(send_request, user, set_bounds, notes, short_ticks):
    """A response that has ended but whose rest, or only its end, cannot be sent is dropped after a timeout."""
    events = await send_request("events/", user)
    await events.start()
    [stream] = current_hub().subscribers()
    set_bounds(clients=0.2)
    async with block_sends(events):
        for _ in range(notes):
            await in_thread(notify, user, "not taken")
        stream.end_at = 0.0  # Its time is over at the next tick.
        await events.wait_until_closed()
    set_bounds(clients=60)
    events = await send_request("events/", user)
    await events.start()


async def test_disconnected_client_leaves_the_hub(send_request, user):
    """When a client disconnects, the hub forgets its subscriber, and the slot is free."""
    for _ in range(6):
        events = await send_request("events/", user)
        await events.start()
        events.disconnect()
        await events.wait_until_closed()
        assert current_hub().subscribers() == []


async def test_server_shutdown(send_request, user):
    """At shutdown a client gets bye 4000 with a reconnect delay, and the response ends."""
    events = await send_request("events/", user)
    await events.start()
    await hub.close_current_hub()
    bye = await events.receive("bye")
    assert (bye["data"]["op"], bye["data"]["code"], bye["data"]["reconnect"]) == ("bye", 4000, True)
    assert 0 < bye["data"]["after_ms"] <= 5000 and "id" not in bye
    assert await events.receive() is None


async def test_event_stream_is_not_counted_as_socket(send_request, connect, user, settings):
    """Event streams and WebSockets of a user have separate limits."""
    settings.NOTIFICATIONS = {"SOCKETS_PER_USER": 1}
    for _ in range(3):
        await (await send_request("events/", user)).start()
    socket = await connect(user)
    await socket.start()
    assert (await (await connect(user)).receive_bye())["reason"] == "too_many_sockets"
    await (await send_request("events/", user)).start()


async def test_changes_are_followed_without_a_gap(send_request, user):
    """While rows are written continuously, the prev of each event is the seq of the one before."""
    events = await send_request("events/", user)
    seq = (await events.start())["data"]["seq"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_thread(lambda: [rows.notices(user, 1) for _ in range(40)]))
        while seq < 40:
            frame = (await events.receive())["data"]
            assert frame["prev"] == seq
            seq = frame["seq"]
