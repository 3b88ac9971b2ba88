"""Brokers and databases that go away and come back, and layers that lose or double: nobody is restarted for it."""

import asyncio
import json
import re
import time

import aiohttp
import pytest

from tests.realtime.ringing import ListenerProcess, ring
from tests.realtime.servers.test_servers import SESSION, hear, open_socket, start
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.rings_only import LISTENING
from tests.support.site import Sites

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"

#: Rings for ever, as a server or a worker does; Django closes what broke between two requests.
RINGS = """
from django.db import Error, close_old_connections
while True:
    try:
        close_old_connections()
        before = time.monotonic()
        streams.ring([7])
        print(f"rang in {time.monotonic() - before:.6f}", flush=True)
    except Error:
        pass
    time.sleep(0.1)
"""


@pytest.fixture
def broker():
    """A Redis of the test's own."""
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def cluster():
    """A PostgreSQL of the test's own."""
    server = Postgres()
    yield server
    server.stop()


def use_layer(site, backend, url):
    layer = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}}
    site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layer)


def heard_from_now_on(ear, since):
    ear.until(lambda ear: any(7 in call["users"] and call["at"] > since for call in ear.calls))


@pytest.mark.parametrize("backend", [CORE, PUBSUB])
def test_redis_goes_and_comes_back_empty(site, broker, backend):
    """Listeners hear again, ringers are heard again, and meanwhile nobody waits for it."""
    use_layer(site, backend, broker.url)
    ear, bell = ListenerProcess(site), ListenerProcess(site, then=RINGS)
    heard_from_now_on(ear, 0)
    broker.kill()
    away = len(bell.process.output.split("rang in"))
    bell.until(lambda bell: len(bell.process.output.split("rang in")) > away + 20)
    broker.start()
    heard_from_now_on(ear, time.time())
    ear.until_heard_again(site, 8)
    # Six digits: a line of the log may follow in the same line.
    waits = [float(re.match(r" (\d+\.\d{6})", text)[1]) for text in bell.process.output.split("rang in")[1:]]
    assert max(waits) < 4  # the layer may take 5 s to do what it is asked
    assert ear.process.running and bell.process.running


def test_postgres_crashes_and_comes_back(cluster, tmp_path):
    """Listeners listen again, on a new connection, and say that they do."""
    site = Sites(tmp_path, cluster).make()
    try:
        ear = ListenerProcess(site)
        ListenerProcess(site, then=RINGS)
        heard_from_now_on(ear, 0)
        cluster.crash()
        ear.process.wait_for_line("Doorbell interrupted, retrying: PostgreSQL NOTIFY")
        cluster.start()
        heard_from_now_on(ear, time.time())
        assert "Doorbell works again: PostgreSQL NOTIFY" in ear.process.output
        # Said once for each reason, not at each try.
        assert ear.process.output.count("Doorbell interrupted") < 6
        ear.until_heard_again(site, 8)
    finally:
        site.close()


def test_the_listening_connection_is_ended_by_an_administrator(postgres_site):
    """A new one is made at once."""
    ear = ListenerProcess(postgres_site)
    ring(
        postgres_site,
        """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query = 'LISTEN notifications_doorbell' AND datname = current_database()"
    )
""",
    )
    ear.process.wait_for_line("Doorbell works again")
    ring(postgres_site, "streams.ring([1])")
    ear.until_heard(1)


async def told_of(socket, title):
    """The frame with this notification, and how long after its writing it came."""
    while True:
        frame = json.loads((await asyncio.wait_for(socket.receive(), 60)).data)
        for item in frame.get("items", ()):
            if item.get("title") == title:
                return frame, time.time() - item["data"]["at"]


NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
notify(get_user_model().objects.get(username="demo"), {!r}, data={{"at": time.time()}})
"""


ASK = """
from django.contrib.auth import get_user_model
from tests.jobs import tasks
tasks.add.using(owner=get_user_model().objects.get(username="demo")).enqueue(1, 2)
"""


async def connected(site):
    """A socket of demo that is caught up, and what closes it."""
    site.environment["EMBEDDED_WORKER"] = "0"
    await asyncio.to_thread(site.start_web)
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    session = aiohttp.ClientSession(cookies={"sessionid": key})
    socket = await open_socket(session, site)
    await start(socket)
    if "TEST_RINGS_ONLY" in site.environment:
        await asyncio.to_thread(site.web.wait_for_line, LISTENING)
    return socket, session.close


async def test_a_layer_that_loses_everything_costs_seconds(site, redis):
    """The position check finds what no ring told."""
    use_layer(site, "tests.realtime.layers.Dropping", redis.url)
    socket, close = await connected(site)
    for title in ("first", "second"):
        await asyncio.to_thread(ring, site, NOTIFY.format(title))
        _, waited = await told_of(socket, title)
        assert waited < 30  # the position check, every 5 s
    await close()


async def test_a_layer_that_doubles_everything_tells_once(site, redis):
    """Each change is one frame: a ring only says that there may be something."""
    use_layer(site, "tests.realtime.layers.Doubling", redis.url)
    site.environment["TEST_RINGS_ONLY"] = "1"
    socket, close = await connected(site)
    seqs = []
    for title in ("first", "second", "third"):
        await asyncio.to_thread(ring, site, NOTIFY.format(title))
        frame, _ = await told_of(socket, title)
        seqs.append((frame["prev"], frame["seq"]))
    assert seqs == [(0, 1), (1, 2), (2, 3)]
    await socket.send_json({"op": "ping"})
    await hear(socket, "beat")
    await close()


@pytest.mark.parametrize("way", ["postgres", CORE, PUBSUB])
async def test_an_outcome_of_a_worker_reaches_a_socket_of_another_process(request, redis, way):
    """By rings alone, not by the position check."""
    site = request.getfixturevalue("postgres_site" if way == "postgres" else "site")
    if way != "postgres":
        use_layer(site, way, redis.url)
    site.environment["TEST_RINGS_ONLY"] = "1"
    socket, close = await connected(site)
    worker = await asyncio.to_thread(site.start_worker)
    await asyncio.to_thread(worker.wait_for_line, LISTENING)
    for _ in range(3):
        asking = asyncio.create_task(asyncio.to_thread(ring, site, ASK))
        await until_a_job_is_done(socket)
        await asking
    await close()


async def until_a_job_is_done(socket):
    while True:
        frame = json.loads((await asyncio.wait_for(socket.receive(), 60)).data)
        for item in frame.get("items", ()):
            if item["kind"] == "job" and item["done"]:
                return
