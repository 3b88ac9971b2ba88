"""Connections that fall silent without a reset: what waits at them is freed, and all goes on.

A proxy swallows what is sent, unacknowledged, as after a failover or in front of a firewall that forgot the connection;
or it acknowledges and passes nothing on, as a pooler that hangs. New connections are silent for a while too.
The short form shortens the deadlines (tests/support/short_deadlines.py), the long one has those of production.
"""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from notifications import outbound
from notifications.outbound import pools
from notifications.outbound.circuits import circuits
from tests.faults.support.engine import ROUNDS, Engine
from tests.faults.test_doorbells import CORE, PUBSUB, RINGS, use_layer
from tests.outbound.upstream import Upstream
from tests.realtime.ringing import Ear
from tests.realtime.test_servers import SESSION, open_socket, start
from tests.support.network import Proxy
from tests.support.waiting import wait_until

FAULTS = [Proxy.swallow, Proxy.stall]
#: Seconds after which a silent connection is given up in the short form.
DEADLINE = 3
#: Seconds within which all goes on, once new connections are let through.
PATIENCE = 30
#: Seconds for which new connections are silent: none, less and more than it takes to give one up.
OUTAGES = [0, 7, 25] if ROUNDS else [6]

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
@pytest.mark.parametrize("fault", FAULTS)
async def test_push_claims_lease_and_join_go_on_after_postgresql_was_silent(engine, database, fault, outage):
    """Within 30 s of new connections; each connection that is given up is logged."""
    site = engine.site
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
        open_socket(session, site) as socket,
    ):
        await start(socket)
        reading = asyncio.create_task(until_told(socket, "During the silence"))

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


async def until_told(socket, title):
    """Read frames until one has a notification with this title."""
    async for message in socket:
        frame = json.loads(message.data)
        if frame.get("ack"):
            await socket.send_json({"op": "ack", "n": frame["n"]})
        if any(item.get("title") == title for item in frame.get("items", ())):
            return


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("backend", [CORE, PUBSUB])
@pytest.mark.parametrize("fault", FAULTS)
def test_rings_go_on_after_redis_was_silent(site, redis, backend, fault, outage):
    """Within 30 s, at both ends, who rings and who listens; meanwhile nobody waits for it."""
    shorten(site)
    with Proxy(redis.port) as proxy:
        use_layer(site, backend, f"redis://{proxy.address}/0")
        ear, bell = Ear(site), Ear(site, then=RINGS)
        until_rung(ear, since=0)
        fault(proxy, new=bool(outage))
        rung = bell.process.output.count("rang in")
        time.sleep(outage)
        proxy.restore()
        until_rung(ear, since=time.time())
        ear.process.wait_for_line("Doorbell: the channel layer works again.")
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
    monkeypatch.setattr(pools, "UNACKNOWLEDGED_MS", 1_000, raising=False)
    url = f"{upstream.url}/ok"
    await asyncio.gather(*(outbound.get(url) for _ in range(5)))
    upstream.swallow()
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
