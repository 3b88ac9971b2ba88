"""Server-Sent Events: what an EventSource gets, from where it begins, and when a response ends."""

import asyncio

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import Client

from notifications import streams
from notifications.api import notify
from notifications.realtime import clock, hub
from notifications.realtime.transports import sse
from tests.realtime import rows
from tests.realtime.conftest import blocked, in_thread, sign_in, until

ALL_MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]


async def test_each_frame_is_an_event(ask, connect, user):
    """Named after its op, with the data that a socket gets but no n; no welcome; only sync and change have an id."""
    await in_thread(notify, user, "before")
    job = await in_thread(rows.job, user)
    events, socket = await ask("events/", user), await connect(user)
    sync = await events.start()
    epoch = await in_thread(streams.epoch)
    expected = await socket.start()
    assert sync["id"] == f"{epoch}:1"
    assert sync["data"] == {key: value for key, value in expected.items() if key != "n"}
    assert (sync["data"]["op"], sync["data"]["reset"], len(sync["data"]["jobs"])) == ("sync", True, 1)
    for act, args, op in [(rows.change, (job,), "jobs"), (notify, (user, "x\ny\r\u2028ä"), "change")]:
        await in_thread(act, *args, **({"state": "running"} if op == "jobs" else {}))
        expected, event = await socket.receive(op), await events.receive(op)
        assert event["data"] == {key: value for key, value in expected.items() if key not in ("n", "ack")}
        assert event.get("id") == (f"{epoch}:2" if op == "change" else None)


async def test_headers_prevent_caching_and_buffering(ask, user):
    """Neither a cache stores it nor nginx buffers it."""
    events = await (await ask("events/", user)).wait_for_response()
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
async def test_start_position(ask, user, query, last, prev):
    """Last-Event-ID wins over the query, and a broken one counts as none."""
    await in_thread(rows.notices, user, 3)
    epoch = await in_thread(streams.epoch)
    headers = {"Last-Event-ID": last.format(epoch=epoch)} if last is not None else {}
    sync = await (await ask(f"events/{query.format(epoch=epoch)}", user, headers=headers)).start()
    assert (sync["data"]["prev"], sync["data"]["seq"], sync["data"]["reset"]) == (prev, 3, prev is None)
    assert sync["id"] == f"{epoch}:3"


async def test_invalid_position_in_query(ask, user):
    """422 that names the field."""
    events = await (await ask("events/?seq=x&epoch=e", user)).wait_for_response()
    assert (events.status, (await events.json())["errors"][0]["field"]) == (422, "seq")


async def test_long_catch_up_has_several_events(ask, user, monkeypatch):
    """Each with the id from which the next would follow."""
    await in_thread(rows.notices, user, 450)
    epoch = await in_thread(streams.epoch)
    events = await (await ask(f"events/?epoch={epoch}&seq=0", user)).wait_for_response()
    await events.receive()
    heard = [await events.receive("sync") for _ in range(3)]
    assert [(event["id"], event["data"]["more"]) for event in heard] == [
        (f"{epoch}:200", True),
        (f"{epoch}:400", True),
        (f"{epoch}:450", False),
    ]


async def test_anonymous_client(ask, transactional_db):
    """204, which ends an EventSource for good."""
    events = await (await ask("events/")).wait_for_response()
    assert (events.status, await events.read_body()) == (204, b"")
    assert events.headers["cache-control"] == "no-store"


async def test_method_not_allowed(ask, user):
    """405 for who is signed in, 401 for who is not; HEAD is answered and does not wait."""
    events = await (await ask("events/", user, method="POST")).wait_for_response()
    assert (events.status, events.headers["allow"]) == (405, "GET, HEAD")
    assert (await (await ask("events/", method="POST")).wait_for_response()).status == 401
    head = await (await ask("events/", user, method="HEAD")).wait_for_response()
    assert (head.status, await head.read_body(), head.headers["content-type"]) == (
        200,
        b"",
        "text/event-stream",
    )


async def test_database_outage(ask, user, monkeypatch):
    """503, and never 204: that would sign people out."""

    def away(*args):
        raise OperationalError("gone")

    cookie = await in_thread(sign_in, user)
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", away)
    events = await (await ask("events/", cookie=cookie)).wait_for_response()
    assert (events.status, events.headers["retry-after"]) == (503, "2")


def test_wsgi_is_not_supported(transactional_db):
    """501, with what to do instead."""
    client = Client()
    client.force_login(get_user_model().objects.create_user("ada"))
    answer = client.get("/notifications/api/events/")
    assert (answer.status_code, answer["Content-Type"]) == (501, "application/problem+json")
    assert "sync/" in answer.json()["detail"]


async def test_project_with_other_settings(ask, user, settings, monkeypatch):
    """ATOMIC_REQUESTS, middleware that demands sign-in or compresses: events still come at once."""
    settings.MIDDLEWARE = ALL_MIDDLEWARE
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    events = await ask("events/", user, headers={"Accept-Encoding": "gzip"})
    await events.start()
    await in_thread(notify, user, "now")
    assert (await events.receive("change"))["data"]["items"][0]["title"] == "now"
    assert (await (await ask("events/")).wait_for_response()).status == 204
    assert (await (await ask("sync/", user)).wait_for_response()).status == 200


async def test_comments_keep_the_connection_open(ask, user, monkeypatch):
    """Every 15 s by the clock; nothing else is a beat."""
    assert sse.COMMENT_INTERVAL_SECONDS == 15
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(sse, "COMMENT_INTERVAL_SECONDS", 0.1)
    events = await ask("events/", user)
    await events.wait_for_response()
    assert await events.receive() == {"retry": "3000"}
    # On a busy machine the first one may come before the catch-up is read.
    heard = [await events.receive() for _ in range(4)]
    assert sum(event.get("event") == "sync" for event in heard) == 1
    assert [event for event in heard if "event" not in event] == [{"comment": ""}] * 3


async def test_response_ends_after_5_minutes(ask, user, monkeypatch):
    """Without a bye: the client comes back by itself."""
    assert sse.MAX_RESPONSE_SECONDS == 300
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(sse, "MAX_RESPONSE_SECONDS", 0.2)
    events = await ask("events/", user)
    await events.start()
    assert await events.receive() is None
    await events.wait_until_closed()
    assert hub.current_hub().subscribers() == []


async def test_response_ends_after_256_kib(ask, user):
    """And whoever comes back with the last id gets the rest."""
    await in_thread(rows.notices, user, 200, body="ä" * 2000)
    epoch = await in_thread(streams.epoch)
    seen, last, responses = [], f"{epoch}:0", 0
    while len(seen) < 200:
        events = await (await ask("events/", user, headers={"Last-Event-ID": last})).wait_for_response()
        responses += 1
        await events.receive()
        sizes = []
        while True:
            before = events.size - len(events.body)
            event = await events.receive()
            if event is None:
                break
            sizes.append(before)
            last = event.get("id", last)
            seen += [item["seq"] for item in event["data"]["items"]]
            if len(seen) == 200:
                break
        assert sizes[-1] <= 256 * 1024
        if len(seen) < 200:
            assert events.size > 256 * 1024
            assert events.size < (256 + 128) * 1024 + 1000
    assert seen == list(range(1, 201))
    assert responses == 3


async def test_pending_events_of_slow_client_are_bounded(ask, user):
    """What waits for the server to take it stays within the bound, whatever comes."""
    events = await ask("events/", user)
    await events.start()
    stream = hub.current_hub().subscribers()[0]
    async with blocked(events):
        for _ in range(12):
            await in_thread(rows.notices, user, 20, body="b" * 2000)
            await until(lambda: stream.is_closed or stream.position % 20 == 0)
        await until(lambda: stream.is_closed)
        assert 256 * 1024 < sum(map(len, stream.pending_chunks)) + 65536 < (256 + 128 + 64) * 1024
        assert hub.current_hub().subscribers() == []
    while (event := await events.receive()) is not None:
        last = event["data"]["seq"]
    assert last < 240


async def test_stuck_client_is_dropped(ask, user, monkeypatch):
    """An ended response that cannot be sent is given up."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(sse, "MAX_RESPONSE_SECONDS", 0.2)
    monkeypatch.setattr(sse, "DRAIN_TIMEOUT_SECONDS", 0.2)
    events = await ask("events/", user)
    await events.start()
    async with blocked(events):
        await in_thread(notify, user, "not taken")
        await events.wait_until_closed()
    events = await ask("events/", user)
    await events.start()


async def test_disconnected_client_leaves_the_hub(ask, user):
    """Nothing of the request is kept, and its place is free."""
    for _ in range(6):
        events = await ask("events/", user)
        await events.start()
        events.disconnect()
        await events.wait_until_closed()
        assert hub.current_hub().subscribers() == []


async def test_server_shutdown(ask, user):
    """bye 4000, with when to come back, then the end."""
    events = await ask("events/", user)
    await events.start()
    await hub.close_current_hub()
    bye = await events.receive("bye")
    assert (bye["data"]["op"], bye["data"]["code"], bye["data"]["reconnect"]) == ("bye", 4000, True)
    assert 0 < bye["data"]["after_ms"] <= 5000 and "id" not in bye
    assert await events.receive() is None


async def test_event_stream_is_not_counted_as_socket(ask, connect, user, settings):
    """Events do not count for the sockets of a user, nor sockets for them."""
    settings.NOTIFICATIONS = {"SOCKETS_PER_USER": 1}
    for _ in range(3):
        await (await ask("events/", user)).start()
    socket = await connect(user)
    await socket.start()
    assert (await (await connect(user)).receive_bye())["reason"] == "too_many_sockets"
    await (await ask("events/", user)).start()


async def test_changes_are_followed_without_a_gap(ask, user):
    """While rows are written all the time, prev of each event is the seq before it."""
    events = await ask("events/", user)
    seq = (await events.start())["data"]["seq"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_thread(lambda: [rows.notices(user, 1) for _ in range(40)]))
        while seq < 40:
            frame = (await events.receive())["data"]
            assert frame["prev"] == seq
            seq = frame["seq"]
