"""Brokers and databases restart, and layers lose or duplicate messages. Processes of the site need no restart."""

import asyncio
import json
import re
import time

import aiohttp
import pytest

from tests.realtime.ringing import ListenerProcess, ring
from tests.realtime.servers.test_servers import SESSION, open_socket, receive_frame, start
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.rings_only import LISTENING
from tests.support.site import Sites

pytestmark = pytest.mark.nightly_names("*[channels_redis.core.RedisChannelLayer]")

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"

#: Code of a process that rings until it is stopped. Like Django between two requests, it closes broken connections.
RING_FOREVER = """
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
    """A Redis server for this test only."""
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def cluster():
    """A PostgreSQL cluster for this test only."""
    server = Postgres()
    yield server
    server.stop()


def use_layer(site, backend, url):
    layer = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}}
    site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layer)


def wait_until_rung_after(listener, since):
    listener.until(lambda listener: any(7 in call["users"] and call["at"] > since for call in listener.calls))


@pytest.mark.parametrize("backend", [CORE, PUBSUB])
def test_redis_restarts_empty(site, broker, backend):
    """Rings are received again, and callers do not wait while Redis is down."""
    use_layer(site, backend, broker.url)
    listener, ringer = ListenerProcess(site), ListenerProcess(site, then=RING_FOREVER)
    wait_until_rung_after(listener, 0)
    broker.kill()
    count_before = len(ringer.process.output.split("rang in"))
    ringer.until(lambda ringer: len(ringer.process.output.split("rang in")) > count_before + 20)
    broker.start()
    wait_until_rung_after(listener, time.time())
    listener.ring_until_received(site, 8)
    # The pattern ends after six digits, because a log line may follow without a line break.
    waits = [
        float(re.match(r" (\d+\.\d{6})", text)[1]) for text in ringer.process.output.split("rang in")[1:]
    ]
    assert max(waits) < 4  # The timeout of the layer is 5 s.
    assert listener.process.running and ringer.process.running


@pytest.mark.any_database
@pytest.mark.nightly
def test_postgresql_restarts(cluster, tmp_path):
    """Listeners listen again on a new connection, and log it."""
    site = Sites(tmp_path, cluster).make()
    try:
        listener = ListenerProcess(site)
        ListenerProcess(site, then=RING_FOREVER)
        wait_until_rung_after(listener, 0)
        cluster.crash()
        listener.process.wait_for_line("A thread failed, and goes on: notifications-doorbell-postgres")
        cluster.start()
        wait_until_rung_after(listener, time.time())
        assert "A thread works again: notifications-doorbell-postgres" in listener.process.output
        # Logged once for each reason, not at each retry.
        assert listener.process.output.count("A thread failed") < 6
        listener.ring_until_received(site, 8)
    finally:
        site.close()


@pytest.mark.nightly
def test_terminated_listening_connection(postgres_site):
    """The listener connects again immediately."""
    listener = ListenerProcess(postgres_site)
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
    listener.process.wait_for_line("A thread works again")
    ring(postgres_site, "streams.ring([1])")
    listener.wait_for_user(1)


async def read_notification(socket, title):
    """Return the frame with this notification, and the seconds since it was written."""
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


ENQUEUE = """
from django.contrib.auth import get_user_model
from tests.jobs import tasks
tasks.add.using(owner=get_user_model().objects.get(username="demo")).enqueue(1, 2)
"""


async def open_synced_socket(site):
    """Return a synced socket of demo, and a function that closes it."""
    site.environment["EMBEDDED_WORKER"] = "0"
    await asyncio.to_thread(site.start_web)
    key = (await asyncio.to_thread(site.python, SESSION.format(name="demo"))).split()[-1]
    session = aiohttp.ClientSession(cookies={"sessionid": key})
    socket = await open_socket(session, site)
    await start(socket)
    if "TEST_CHANGES" in site.environment:
        await asyncio.to_thread(site.web.wait_for_line, LISTENING)
    return socket, session.close


@pytest.mark.nightly
async def test_layer_that_loses_all_messages(site, redis):
    """The position check finds the changes."""
    use_layer(site, "tests.realtime.layers.Dropping", redis.url)
    socket, close = await open_synced_socket(site)
    for title in ("first", "second"):
        await asyncio.to_thread(ring, site, NOTIFY.format(title))
        _, delay = await read_notification(socket, title)
        assert delay < 30  # The position check runs every 5 s.
    await close()


@pytest.mark.nightly
async def test_layer_that_duplicates_all_messages(site, redis):
    """Each change is sent in one frame, because the content of a frame does not come from the ring."""
    use_layer(site, "tests.realtime.layers.Doubling", redis.url)
    site.change("tests.support.rings_only")
    socket, close = await open_synced_socket(site)
    seqs = []
    for title in ("first", "second", "third"):
        await asyncio.to_thread(ring, site, NOTIFY.format(title))
        frame, _ = await read_notification(socket, title)
        seqs.append((frame["prev"], frame["seq"]))
    assert seqs == [(0, 1), (1, 2), (2, 3)]
    await socket.send_json({"op": "ping"})
    await receive_frame(socket, "beat")
    await close()


@pytest.mark.nightly
@pytest.mark.parametrize("transport", ["postgres", CORE, PUBSUB])
async def test_outcome_reaches_another_process(request, redis, transport):
    """Rings suffice for that, without the position check."""
    site = request.getfixturevalue("postgres_site" if transport == "postgres" else "site")
    if transport != "postgres":
        use_layer(site, transport, redis.url)
    site.change("tests.support.rings_only")
    socket, close = await open_synced_socket(site)
    worker = await asyncio.to_thread(site.start_worker)
    await asyncio.to_thread(worker.wait_for_line, LISTENING)
    for _ in range(3):
        enqueueing = asyncio.create_task(asyncio.to_thread(ring, site, ENQUEUE))
        await wait_until_a_job_is_done(socket)
        await enqueueing
    await close()


async def wait_until_a_job_is_done(socket):
    while True:
        frame = json.loads((await asyncio.wait_for(socket.receive(), 60)).data)
        for item in frame.get("items", ()):
            if item["kind"] == "job" and item["done"]:
                return
