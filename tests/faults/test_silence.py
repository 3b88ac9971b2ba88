"""Connections become silent without a reset: they are closed after a deadline, and push, jobs and calls continue.

A proxy drops all packets without acknowledgment, as after a failover or behind a firewall that has lost the state of
the connection, or it acknowledges data and forwards nothing, as a connection pooler that hangs. New connections are
silent for a while too. The short form has shorter deadlines (tests/support/short_deadlines.py) than production.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import time
from pathlib import Path

import aiohttp
import pytest

from notifications import outbound
from notifications.outbound import connector
from tests.faults.test_doorbells import CORE, PUBSUB, RING_FOREVER, use_layer
from tests.outbound.upstream import Upstream
from tests.realtime.ringing import ListenerProcess
from tests.realtime.servers.test_servers import DAPHNE, EVENTS, SESSION, UVICORN, open_socket, start
from tests.support.faults.engine import ROUNDS, Engine
from tests.support.network import Proxy, is_listening
from tests.support.waiting import wait_until

FAULTS = [Proxy.blackhole, Proxy.stall]
#: One more is refused.
STREAMS_PER_USER = 4
#: The time after which a silent connection is closed in the short form.
DEADLINE_SECONDS = 3
#: The maximum time until everything continues after new connections work.
TIMEOUT_SECONDS = 30
#: How long new connections are silent: not at all, and less and more than it takes to close one.
OUTAGES_SECONDS = [0, 7, 25] if ROUNDS else [6]
#: Options of Django's connection pool. Its connection timeout is set by the project.
POOL = {"pool": {"min_size": 4}, "connect_timeout": 10 if ROUNDS else DEADLINE_SECONDS}

JOIN = """
import sys
import django
django.setup()
from notifications.api import join
print("join() returned:", join(sys.argv[1], 300), flush=True)
"""
NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
notify(get_user_model().objects.get(username="demo"), {!r})
"""
LEASES = "SELECT count(*) FROM notifications_worker WHERE lease_until > clock_timestamp()"


def make_pairs(parts):
    """Return each fault with one of two parts in the short form, and with both in the long one."""
    return list(itertools.product(FAULTS, parts) if ROUNDS else zip(FAULTS, parts, strict=True))


def shorten_deadlines(site):
    if not ROUNDS:
        site.change("tests.support.short_deadlines")
        site.environment["TEST_DEADLINES"] = str(DEADLINE_SECONDS)


@pytest.fixture
def database(postgres_site):
    """A proxy in front of the PostgreSQL of `postgres_site`."""
    host, _, name = postgres_site.database_url.rpartition("/")
    with Proxy(int(host.rpartition(":")[2])) as proxy:
        proxy.database_url = f"postgres://tests@{proxy.address}/{name}"
        yield proxy
        postgres_site.close()  # Before the proxy, so that workers can release their jobs.


@contextlib.contextmanager
def connect_through(proxy, site):
    """Let processes started in the block connect to PostgreSQL through a proxy."""
    site.environment["DATABASE_URL"] = proxy.database_url
    yield
    site.environment["DATABASE_URL"] = site.database_url


@pytest.fixture
def engine(postgres_site):
    shorten_deadlines(postgres_site)
    engine = Engine(postgres_site, "silence", lease=20)
    yield engine
    engine.close()


@pytest.mark.nightly_names("*[blackhole-*]", "*[stall-pool2-*]")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("outage", OUTAGES_SECONDS)
@pytest.mark.parametrize(("fault", "pool"), [*((fault, None) for fault in FAULTS), (Proxy.stall, POOL)])
async def test_silent_postgresql(engine, database, fault, pool, outage):
    """Push, claims, leases and join() continue within 30 s after new connections work. Discarded ones are logged."""
    site = engine.site
    site.environment["TEST_DATABASE_OPTIONS"] = json.dumps(pool or {})
    (waiting_jobs,) = await asyncio.to_thread(
        engine.enqueue, "wait_for_gate"
    )  # The driver connects to PostgreSQL directly.
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    with connect_through(database, site):
        web = await asyncio.to_thread(site.start_web)
        worker = await asyncio.to_thread(site.start_worker)
        await asyncio.to_thread(engine.wait_until_started, [waiting_jobs])
        joiner = site.start("joiner", "-c", JOIN, waiting_jobs)
        await asyncio.to_thread(joiner.wait_for_line, "Doorbell: PostgreSQL NOTIFY")
    async with (
        aiohttp.ClientSession(cookies={"sessionid": key}) as session,
        open_socket(session, site) as client,
    ):
        await start(client)
        reading = asyncio.create_task(wait_for_notification(client, "During the silence"))

        fault(database, new=bool(outage))
        engine.open_gate()
        enqueued = await asyncio.to_thread(engine.enqueue, "wait_for_gate", 3)
        await asyncio.to_thread(site.python, NOTIFY.format("During the silence"))
        await asyncio.sleep(outage)
        database.restore()
        deadline = time.monotonic() + TIMEOUT_SECONDS

        await asyncio.wait_for(reading, TIMEOUT_SECONDS)
        for condition, what in (
            (lambda: site.rows(LEASES)[0][0] == 1, "the lease"),
            (
                lambda: {job.state for job in engine.jobs([waiting_jobs, *enqueued])} == {"succeeded"},
                "the jobs",
            ),
            (lambda: "join() returned:" in joiner.output, "join"),
        ):
            timeout = max(deadline - time.monotonic(), 1)
            await asyncio.to_thread(wait_until, condition, what=what, timeout=timeout)
        for process in (web, worker):
            await asyncio.to_thread(process.wait_for_line, "Discarded a database connection")
    assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
    engine.assert_no_gap()


async def wait_for_notification(client, title):
    """Read frames until one has a notification with this title."""
    async for message in client:
        frame = json.loads(message.data)
        if frame.get("ack"):
            await client.send_json({"op": "ack", "n": frame["n"]})
        if any(item.get("title") == title for item in frame.get("items", ())):
            return


@pytest.mark.nightly
@pytest.mark.parametrize("outage", OUTAGES_SECONDS)
@pytest.mark.parametrize(("fault", "backend"), make_pairs([PUBSUB, CORE]))
def test_silent_redis(site, redis, fault, backend, outage):
    """Rings are sent and received again within 30 s. Callers do not wait during the outage."""
    shorten_deadlines(site)
    with Proxy(redis.port) as proxy:
        use_layer(site, backend, f"redis://{proxy.address}/0")
        listener, ringer = ListenerProcess(site), ListenerProcess(site, then=RING_FOREVER)
        wait_until_rung(listener, since=0)
        fault(proxy, new=bool(outage))
        count_before = ringer.process.output.count("rang in")
        time.sleep(outage)
        proxy.restore()
        wait_until_rung(listener, since=time.time())
        listener.process.wait_for_line("A thread works again: notifications-doorbell-layer")
        assert ringer.process.output.count("rang in") > count_before + 5
        site.close()


def wait_until_rung(listener, since):
    """Wait until the process was rung for user 7 later than `since`."""
    listener.until(
        lambda listener: any(7 in call["users"] and call["at"] > since for call in listener.calls),
        timeout=TIMEOUT_SECONDS,
    )


@pytest.fixture
def upstream(settings):
    """A proxy in front of an upstream that keeps connections alive."""
    server = Upstream()
    with Proxy(server.port) as proxy:
        settings.NOTIFICATIONS = {"OUTBOUND_ALLOW": [proxy.address], "OUTBOUND_PORTS": [proxy.port]}
        yield proxy
    server.close()


async def test_lost_packets_to_an_upstream(upstream, monkeypatch):
    """A GET on a kept-alive connection that loses its packets succeeds on a new one, within its deadline."""
    monkeypatch.setattr(connector, "TCP_USER_TIMEOUT_MS", 1_000, raising=False)
    url = f"{upstream.url}/ok"
    await asyncio.gather(*(outbound.get(url) for _ in range(5)))
    upstream.blackhole()
    responses = await asyncio.gather(*(outbound.get(url, deadline=10, retries=0) for _ in range(5)))
    assert [response.status for response in responses] == [200] * 5


async def test_hanging_upstream(upstream):
    """Calls on connections that only acknowledge data end at their deadline, and close the connections."""
    url = f"{upstream.url}/ok"
    await asyncio.gather(*(outbound.get(url) for _ in range(5)))
    upstream.stall()
    silent = await asyncio.gather(*(outbound.get(url, deadline=1) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in silent] == [outbound.TimedOut] * 5
    assert (await outbound.get(url, deadline=10, retries=0)).status == 200


#: The servers, with shorter ping intervals than the default in the short form.
SERVERS = {
    "daphne": (*DAPHNE, *(() if ROUNDS else ("--ping-interval", "1", "--ping-timeout", "2"))),
    "uvicorn": (*UVICORN, *(() if ROUNDS else ("--ws-ping-interval", "1", "--ws-ping-timeout", "2"))),
}
#: The maximum time until a server has closed all silent clients. Event streams end after 5 minutes.
CLOSE_TIMEOUT_SECONDS = 400 if ROUNDS else 60


@pytest.mark.nightly
@pytest.mark.timeout(CLOSE_TIMEOUT_SECONDS + 120)
@pytest.mark.parametrize(("fault", "server"), make_pairs(SERVERS))
async def test_resources_of_silent_clients(site, fault, server):
    """Sockets before and after hello, and event streams, free their slots and descriptors."""
    pytest.importorskip(server)
    shorten_deadlines(site)
    site.notifications["SOCKETS_PER_USER"] = 2
    site.environment["EMBEDDED_WORKER"] = "0"
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    web = site.start("web", *(part.format(port=site.port) for part in SERVERS[server]))
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    async with aiohttp.ClientSession(
        cookies={"sessionid": key}, connector=aiohttp.TCPConnector(force_close=True)
    ) as session:
        assert await is_socket_accepted(session, site) and await is_stream_accepted(session, site)
        with Proxy(site.port) as proxy:
            sockets = [await open_socket(session, proxy) for _ in range(2)]
            await start(sockets[0])
            events = [await session.get(f"{proxy.url}{EVENTS}") for _ in range(STREAMS_PER_USER)]
            assert [response.status for response in events] == [200] * STREAMS_PER_USER
            assert not await is_socket_accepted(session, site) and not await is_stream_accepted(session, site)
            fault(proxy)
            await wait_until_async(lambda: is_socket_accepted(session, site), "a socket")
            await wait_until_async(lambda: is_stream_accepted(session, site), "an event stream")
            await asyncio.to_thread(
                wait_until,
                lambda: not count_connections(site),
                what="all connections to end",
                timeout=CLOSE_TIMEOUT_SECONDS,
            )
        for response in events:
            response.close()
        for client in sockets:
            await client.close()


async def test_connections_without_a_request_on_uvicorn(site):
    """uvicorn waits for a first request without a limit; the kernel closes the connection after lost packets."""
    pytest.importorskip("uvicorn")
    shorten_deadlines(site)
    site.environment["EMBEDDED_WORKER"] = "0"
    web = site.start("web", *(part.format(port=site.port) for part in UVICORN))
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/accounts/login/"):
        pass
    await asyncio.to_thread(
        wait_until, lambda: not count_connections(site), what="the end of the first request"
    )
    with Proxy(site.port) as proxy, socket.create_connection(("127.0.0.1", proxy.port)):
        await asyncio.to_thread(wait_until, lambda: count_connections(site), what="the connection")
        proxy.blackhole()
        await asyncio.to_thread(
            wait_until, lambda: not count_connections(site), what="its end", timeout=CLOSE_TIMEOUT_SECONDS
        )


async def is_socket_accepted(session, site):
    """Return whether the server accepts another socket of the user."""
    async with open_socket(session, site) as client:
        await client.send_json({"op": "hello"})
        return (await client.receive_json(timeout=40))["op"] == "welcome"


async def is_stream_accepted(session, site):
    """Return whether the server accepts another event stream of the user."""
    async with session.get(f"{site.url}{EVENTS}") as response:
        assert response.status in (200, 429)
        return response.status == 200


def count_connections(site):
    """Return how many connections the server has: established, or closed only by the client (proc(5), net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{site.port:04X}") and line[3] in ("01", "08") for line in lines)


async def wait_until_async(condition, what):
    """Wait for a coroutine function to return a true value."""
    deadline = time.monotonic() + CLOSE_TIMEOUT_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what} was not accepted again"
        await asyncio.sleep(0.2)
