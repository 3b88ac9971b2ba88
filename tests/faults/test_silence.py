"""Connections that fall silent without a reset: what waits at them is freed, and all goes on.

A proxy swallows what is sent, unacknowledged, as after a failover or in front of a firewall that forgot the connection;
or it acknowledges and passes nothing on, as a pooler that hangs. New connections are silent for a while too.
The short form shortens the deadlines (tests/support/short_deadlines.py), the long one has those of production.
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
from notifications.http import wait_slots
from notifications.outbound import sockets
from notifications.outbound.circuits import circuits
from tests.faults.support.engine import ROUNDS, Engine
from tests.faults.test_doorbells import CORE, PUBSUB, RINGS, use_layer
from tests.outbound.upstream import Upstream
from tests.realtime.ringing import ListenerProcess
from tests.realtime.servers.test_servers import DAPHNE, EVENTS, SESSION, UVICORN, open_socket, start
from tests.support.network import Proxy, is_listening
from tests.support.waiting import wait_until

FAULTS = [Proxy.blackhole, Proxy.stall]
#: Seconds after which a silent connection is given up in the short form.
DEADLINE = 3
#: Seconds within which all goes on, once new connections are let through.
PATIENCE = 30
#: Seconds for which new connections are silent: none, less and more than it takes to give one up.
OUTAGES = [0, 7, 25] if ROUNDS else [6]
#: A pool of Django's; how long it tries to connect is for the project to say.
POOL = {"pool": {"min_size": 4}, "connect_timeout": 10 if ROUNDS else DEADLINE}

JOIN = """
import sys
import django
django.setup()
from notifications.api import join
print("It has ended:", join(sys.argv[1], 300), flush=True)
"""
NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
notify(get_user_model().objects.get(username="demo"), {!r})
"""
LEASES = "SELECT count(*) FROM notifications_worker WHERE lease_until > clock_timestamp()"


def pairs(parts):
    """Each fault with one of two parts in the short form, with both in the long one."""
    return list(itertools.product(FAULTS, parts) if ROUNDS else zip(FAULTS, parts, strict=True))


def shorten(site):
    if not ROUNDS:
        site.environment["TEST_DEADLINES"] = str(DEADLINE)


@pytest.fixture
def database(postgres_site):
    """A proxy before the PostgreSQL of `postgres_site`."""
    host, _, name = postgres_site.database_url.rpartition("/")
    with Proxy(int(host.rpartition(":")[2])) as proxy:
        proxy.database_url = f"postgres://tests@{proxy.address}/{name}"
        yield proxy
        postgres_site.close()  # before the proxy: workers give their jobs back


@contextlib.contextmanager
def through(proxy, site):
    """Processes that are started in the block reach PostgreSQL through a proxy."""
    site.environment["DATABASE_URL"] = proxy.database_url
    yield
    site.environment["DATABASE_URL"] = site.database_url


@pytest.fixture
def engine(postgres_site):
    shorten(postgres_site)
    engine = Engine(postgres_site, "silence", lease=20)
    yield engine
    engine.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize(("fault", "pool"), [*((fault, None) for fault in FAULTS), (Proxy.stall, POOL)])
async def test_push_claims_lease_and_join_go_on_after_postgresql_was_silent(
    engine, database, fault, pool, outage
):
    """Within 30 s of new connections; each connection that is given up is logged."""
    site = engine.site
    site.environment["TEST_DATABASE_OPTIONS"] = json.dumps(pool or {})
    (held,) = await asyncio.to_thread(engine.ask, "hold")  # its driver reaches PostgreSQL past the proxy
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    with through(database, site):
        web = await asyncio.to_thread(site.start_web)
        worker = await asyncio.to_thread(site.start_worker)
        await asyncio.to_thread(engine.until_begun, [held])
        joiner = site.start("joiner", "-c", JOIN, held)
        await asyncio.to_thread(joiner.wait_for_line, "Doorbell: PostgreSQL NOTIFY")
    async with (
        aiohttp.ClientSession(cookies={"sessionid": key}) as session,
        open_socket(session, site) as client,
    ):
        await start(client)
        reading = asyncio.create_task(until_told(client, "During the silence"))

        fault(database, new=bool(outage))
        engine.open()
        asked = await asyncio.to_thread(engine.ask, "hold", 3)
        await asyncio.to_thread(site.python, NOTIFY.format("During the silence"))
        await asyncio.sleep(outage)
        database.restore()
        until = time.monotonic() + PATIENCE

        await asyncio.wait_for(reading, PATIENCE)
        for condition, what in (
            (lambda: site.rows(LEASES)[0][0] == 1, "the lease"),
            (lambda: {job.state for job in engine.jobs([held, *asked])} == {"succeeded"}, "the jobs"),
            (lambda: "It has ended:" in joiner.output, "join"),
        ):
            left = max(until - time.monotonic(), 1)
            await asyncio.to_thread(wait_until, condition, what=what, timeout=left)
        for process in (web, worker):
            assert "Discarded a database connection" in process.output
    assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
    engine.assert_no_hole()


async def until_told(client, title):
    """Read frames until one has a notification with this title."""
    async for message in client:
        frame = json.loads(message.data)
        if frame.get("ack"):
            await client.send_json({"op": "ack", "n": frame["n"]})
        if any(item.get("title") == title for item in frame.get("items", ())):
            return


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize(("fault", "backend"), pairs([PUBSUB, CORE]))
def test_rings_go_on_after_redis_was_silent(site, redis, fault, backend, outage):
    """Within 30 s, at both ends, who rings and who is_listening; meanwhile nobody waits for it."""
    shorten(site)
    with Proxy(redis.port) as proxy:
        use_layer(site, backend, f"redis://{proxy.address}/0")
        ear, bell = ListenerProcess(site), ListenerProcess(site, then=RINGS)
        until_rung(ear, since=0)
        fault(proxy, new=bool(outage))
        rung = bell.process.output.count("rang in")
        time.sleep(outage)
        proxy.restore()
        until_rung(ear, since=time.time())
        ear.process.wait_for_line("Doorbell works again: channel layer (receiving)")
        assert bell.process.output.count("rang in") > rung + 5
        site.close()


def until_rung(ear, since):
    """Wait until the process was rung for user 7 later than `since`."""
    ear.until(
        lambda ear: any(7 in call["users"] and call["at"] > since for call in ear.calls), timeout=PATIENCE
    )


@pytest.fixture
def upstream(settings):
    """A proxy before an upstream that keeps connections alive."""
    server = Upstream()
    with Proxy(server.port) as proxy:
        settings.NOTIFICATIONS = {"OUTBOUND_ALLOW": [proxy.address], "OUTBOUND_PORTS": [proxy.port]}
        circuits.reset()
        yield proxy
    server.close()


async def test_calls_go_on_after_packets_to_an_upstream_were_lost(upstream, monkeypatch):
    """Kept connections that the network has forgotten cost a GET some seconds of its deadline, and no error."""
    monkeypatch.setattr(sockets, "TCP_USER_TIMEOUT_MS", 1_000, raising=False)
    url = f"{upstream.url}/ok"
    await asyncio.gather(*(outbound.get(url) for _ in range(5)))
    upstream.blackhole()
    answers = await asyncio.gather(*(outbound.get(url, deadline=10, retries=0) for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5


async def test_calls_go_on_after_an_upstream_hung(upstream):
    """Calls on connections that acknowledge everything end by their deadline, and take these with them."""
    url = f"{upstream.url}/ok"
    await asyncio.gather(*(outbound.get(url) for _ in range(5)))
    upstream.stall()
    silent = await asyncio.gather(*(outbound.get(url, deadline=1) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in silent] == [outbound.TimedOut] * 5
    assert (await outbound.get(url, deadline=10, retries=0)).status == 200


#: The servers, which ask silent sockets by pings: sooner than by default in the short form.
SERVERS = {
    "daphne": (*DAPHNE, *(() if ROUNDS else ("--ping-interval", "1", "--ping-timeout", "2"))),
    "uvicorn": (*UVICORN, *(() if ROUNDS else ("--ws-ping-interval", "1", "--ws-ping-timeout", "2"))),
}
#: Seconds after which a server has given up all clients that fell silent. Events end after 5 minutes.
CLIENTS_GONE = 400 if ROUNDS else 60


@pytest.mark.timeout(CLIENTS_GONE + 120)
@pytest.mark.parametrize(("fault", "server"), pairs(SERVERS))
async def test_what_silent_clients_held_comes_back(site, fault, server):
    """Of sockets that said hello or did not, and of events: seats, waiting places and descriptors."""
    pytest.importorskip(server)
    shorten(site)
    site.notifications["SOCKETS_PER_USER"] = 2
    site.environment["EMBEDDED_WORKER"] = "0"
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    web = site.start("web", *(part.format(port=site.port) for part in SERVERS[server]))
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    async with aiohttp.ClientSession(
        cookies={"sessionid": key}, connector=aiohttp.TCPConnector(force_close=True)
    ) as session:
        assert await is_let_in(session, site) and await is_given_events(session, site)
        with Proxy(site.port) as proxy:
            sockets = [await open_socket(session, proxy) for _ in range(2)]
            await start(sockets[0])
            events = [
                await session.get(f"{proxy.url}{EVENTS}") for _ in range(wait_slots.MAX_WAITING_REQUESTS)
            ]
            assert [response.status for response in events] == [200] * wait_slots.MAX_WAITING_REQUESTS
            assert not await is_let_in(session, site) and not await is_given_events(session, site)
            fault(proxy)
            await until(lambda: is_let_in(session, site), "a seat")
            await until(lambda: is_given_events(session, site), "a waiting place")
            await asyncio.to_thread(
                wait_until,
                lambda: not connections_of(site),
                what="all connections to end",
                timeout=CLIENTS_GONE,
            )
        for response in events:
            response.close()
        for client in sockets:
            await client.close()


async def test_connections_without_a_request_come_back_on_uvicorn(site):
    """uvicorn waits for a first request as long as it takes; where packets are lost, the kernel does not."""
    pytest.importorskip("uvicorn")
    shorten(site)
    site.environment["EMBEDDED_WORKER"] = "0"
    web = site.start("web", *(part.format(port=site.port) for part in UVICORN))
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/accounts/login/"):
        pass
    await asyncio.to_thread(wait_until, lambda: not connections_of(site), what="the end of the first request")
    with Proxy(site.port) as proxy, socket.create_connection(("127.0.0.1", proxy.port)):
        await asyncio.to_thread(wait_until, lambda: connections_of(site), what="the connection")
        proxy.blackhole()
        await asyncio.to_thread(
            wait_until, lambda: not connections_of(site), what="its end", timeout=CLIENTS_GONE
        )


async def is_let_in(session, site):
    """Whether the server has a seat for one more socket of the user."""
    async with open_socket(session, site) as client:
        await client.send_json({"op": "hello"})
        return (await client.receive_json(timeout=40))["op"] == "welcome"


async def is_given_events(session, site):
    """Whether the server has a place for one more waiting request of the user."""
    async with session.get(f"{site.url}{EVENTS}") as response:
        assert response.status in (200, 429)
        return response.status == 200


def connections_of(site):
    """How many connections the server holds: established, or closed by the client only (proc(5), net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{site.port:04X}") and line[3] in ("01", "08") for line in lines)


async def until(condition, what):
    """Wait for a coroutine to return something true."""
    give_up = time.monotonic() + CLIENTS_GONE
    while not await condition():
        assert time.monotonic() < give_up, f"{what} did not come back"
        await asyncio.sleep(0.2)
