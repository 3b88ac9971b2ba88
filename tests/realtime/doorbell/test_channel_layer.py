"""The channel layer as the doorbell's transport: lost groups, dropped messages, and layers shared with the project."""

import asyncio
import logging
import threading
import time

import pytest
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer

from notifications.realtime.doorbell import Doorbell, channel_layer
from notifications.realtime.doorbell.channel_layer import LayerListener, LayerPublisher
from tests.support.network import Listener
from tests.support.redis_server import Redis
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres


class Counting(RedisPubSubChannelLayer):
    """Counts messages in `sent`."""

    sent = 0

    async def group_send(self, group, message):
        Counting.sent += 1
        await self._get_layer().group_send(group, message)


PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


@pytest.fixture
def empty_redis():
    """A separate Redis for the test."""
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def configure_layer(settings):
    """configure_layer(backend, **config): set the project's channel layer."""

    def configure(backend, **config):
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}

    return configure


@pytest.fixture
def start_listener(empty_redis):
    """start_listener(): a LayerListener that has joined the group. Received users are in `users`."""
    listeners = []

    def make(origin="me", wait=True):
        users = []
        listener = LayerListener(origin, lambda ring_users, queue: users.extend(ring_users))
        listener.users = users
        listeners.append(listener)
        if wait:
            wait_until(lambda: listener.is_listening)
        return listener

    yield make
    for listener in listeners:
        listener.stop()


@pytest.fixture
def publisher(empty_redis):
    publisher = LayerPublisher("another")
    yield publisher
    publisher.stop()


class BlackHole(Listener):
    """Accepts connections and never answers."""

    def __init__(self):
        self.stopping = threading.Event()
        super().__init__()

    def serve(self, connection):
        self.stopping.wait()
        connection.close()


@pytest.mark.parametrize(
    ("configured", "path"),
    [
        ({}, ""),
        ({"other": {"BACKEND": PUBSUB}}, ""),
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, ""),
        ({"default": {"BACKEND": PUBSUB}}, PUBSUB),
        ({"default": {"BACKEND": "no.such.Layer"}}, "no.such.Layer"),
    ],
)
def test_configured_path_is_of_a_layer_between_processes(settings, configured, path):
    """The path is empty for an in-memory layer, which reaches no other process: the database is used instead."""
    settings.CHANNEL_LAYERS = configured
    assert channel_layer.configured_path() == path


@pytest.mark.parametrize("backend", [CORE, PUBSUB])
def test_publish_never_blocks(configure_layer, backend):
    """A broker that does not respond blocks no caller and delays exit only briefly; pending users are bounded."""
    with BlackHole() as hole:
        configure_layer(backend, hosts=[f"redis://127.0.0.1:{hole.port}"])
        publisher, started = LayerPublisher("me"), time.monotonic()
        for start in range(0, 20_000, 100):
            publisher.publish(range(start, start + 100), False)
        assert time.monotonic() - started < channel_layer.TIMEOUT_SECONDS
        assert len(publisher._users) <= channel_layer.MAX_PENDING_USERS
        started = time.monotonic()
        publisher.stop()
        assert time.monotonic() - started < channel_layer.TIMEOUT_SECONDS
        hole.stopping.set()


def test_a_burst_is_not_lost(configure_layer, start_listener, publisher, empty_redis):
    """1,000 rings in a row all arrive, although the core layer keeps only 100 messages per process."""
    configure_layer(CORE, hosts=[empty_redis.url])
    listener = start_listener()
    for user in range(1000):
        publisher.publish([user], False)
    wait_until(lambda: set(listener.users) == set(range(1000)))


def test_nothing_is_carried(configure_layer, publisher, empty_redis):
    """Texts of users do not go through the broker."""
    configure_layer(PUBSUB, hosts=[empty_redis.url])
    received = []
    listener = LayerListener("me", lambda users, queue: received.append(dict(users)))
    wait_until(lambda: listener.is_listening)
    publisher.publish([7], False, {7: ("a change",)})
    wait_until(lambda: received == [{7: ()}])
    listener.stop()


def test_rings_within_5_ms_are_combined(configure_layer, start_listener, publisher, empty_redis, monkeypatch):
    """Rings within COALESCE_SECONDS are sent in one message."""
    monkeypatch.setattr(Counting, "sent", 0)
    configure_layer("tests.realtime.doorbell.test_channel_layer.Counting", hosts=[empty_redis.url])
    listener = start_listener()
    started = time.monotonic()
    for user in range(500):
        publisher.publish([user], False)
        time.sleep(0.0005)
    wait_until(lambda: set(listener.users) == set(range(500)))
    assert Counting.sent < (time.monotonic() - started) / channel_layer.COALESCE_SECONDS + 2


def test_project_can_receive_on_the_same_layer(configure_layer, start_listener, publisher, empty_redis):
    """The doorbell has its own layer instance, because channels_redis refuses two event loops on one instance."""
    configure_layer(CORE, hosts=[empty_redis.url])
    listener = start_listener()

    async def receive():
        layer = get_channel_layer()
        channel = await layer.new_channel()
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        publisher.publish([1], False)
        await asyncio.to_thread(wait_until, lambda: listener.users == [1])
        await layer.send(channel, {"type": "chat"})
        return await asyncio.wait_for(receiving, 10)

    assert asyncio.run(receive()) == {"type": "chat"}


def test_group_is_joined_again(configure_layer, start_listener, publisher, empty_redis, set_bounds, caplog):
    """After a flush of Redis, which removes groups without an error, the self-check joins the group again."""
    set_bounds(beats=1.0)
    configure_layer(CORE, hosts=[empty_redis.url])
    listener = start_listener()
    flush(empty_redis)

    def ring_arrives():
        publisher.publish([1], False)
        return listener.users

    wait_until(ring_arrives)
    assert "A thread failed" not in caplog.text


def test_first_ring_after_a_broker_restart_arrives(configure_layer, start_listener, publisher, empty_redis):
    """The first ring after a broker restart arrives, although the publisher's connection is dead."""
    configure_layer(CORE, hosts=[empty_redis.url])
    listener = start_listener()
    publisher.publish([1], False)
    wait_until(lambda: listener.users == [1])
    empty_redis.kill()
    wait_until(lambda: not listener.is_listening)
    empty_redis.start()
    wait_until(lambda: listener.is_listening)
    publisher.publish([2], False)
    wait_until(lambda: listener.users == [1, 2])


def flush(server):
    import redis

    with redis.Redis.from_url(server.url) as client:
        client.flushall()


def test_failed_self_check_reconnects(configure_layer, start_listener, empty_redis, set_bounds, caplog):
    """A layer that drops the self-check message is logged and reconnected."""
    set_bounds(beats=0.05)
    configure_layer("tests.realtime.layers.Dropping", hosts=[empty_redis.url])
    with caplog.at_level(logging.INFO):
        start_listener()
        wait_until(lambda: "to itself was not delivered" in caplog.text)
        wait_until(lambda: "A thread works again: notifications-doorbell-layer" in caplog.text)


def test_layer_that_cannot_be_imported_is_logged_once(configure_layer, start_listener, caplog, monkeypatch):
    """A layer that cannot be imported is logged with the reason once, not at each retry."""
    attempts, make_layer = [], channel_layer.make_layer
    monkeypatch.setattr(channel_layer, "make_layer", lambda: attempts.append(1) or make_layer())
    configure_layer("no.such.Layer")
    start_listener(wait=False)
    wait_until(lambda: len(attempts) == 4)
    assert caplog.text.count("Cannot import BACKEND 'no.such.Layer'") == 1


def test_foreign_messages_in_the_group_are_ignored(configure_layer, start_listener, publisher, empty_redis):
    """Messages of another type or with invalid users do not reach the callback."""
    configure_layer(PUBSUB, hosts=[empty_redis.url])
    listener = start_listener()

    async def send():
        layer = get_channel_layer()
        for message in ({"type": "x"}, {"type": "doorbell", "users": ["no number"], "queue": False}):
            await layer.group_send(channel_layer.GROUP, message)

    asyncio.run(send())
    publisher.publish([2], False)
    wait_until(lambda: listener.users == [2])


def test_stop_leaves_the_group(configure_layer, start_listener, empty_redis):
    """Stopping the listener leaves the group and ends its thread."""
    import redis

    configure_layer(CORE, hosts=[empty_redis.url])
    listener = start_listener()
    with redis.Redis.from_url(empty_redis.url) as client:
        assert client.zcard(f"asgi:group:{channel_layer.GROUP}") == 1
        listener.stop()
        assert client.zcard(f"asgi:group:{channel_layer.GROUP}") == 0
    assert not listener.is_running


def test_idle_publisher_thread_ends(configure_layer, publisher, start_listener, empty_redis, set_bounds):
    """An idle publisher's thread ends, and the next ring starts a new one."""
    set_bounds(idle=0.05)
    configure_layer(PUBSUB, hosts=[empty_redis.url])
    listener = start_listener()
    for user in (1, 2):
        publisher.publish([user], False)
        wait_until(lambda user=user: user in listener.users)
        wait_until(lambda: not publisher._thread.is_running)


def test_transport_is_logged_once(settings, caplog, empty_redis):
    """The chosen transport is logged once; the channel layer takes precedence over the database."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": [empty_redis.url]}}}
    with caplog.at_level(logging.INFO):
        bell = Doorbell()
        bell.log_transport()
        bell.listen(lambda users, queue: None)()
        bell.listen(lambda users, queue: None)()
    assert caplog.text.count(f"Doorbell: channel layer {PUBSUB}") == 1


def test_reads_have_no_timeout_of_the_client(configure_layer, empty_redis):
    """That of redis 8 is as long as channels_redis waits, which closed each idle connection every 5 s."""
    configure_layer(CORE, hosts=[{"address": empty_redis.url, "max_connections": 7}, empty_redis.url])
    assert channel_layer.reads_time_out()
    layer = channel_layer.make_layer()
    assert [host["socket_timeout"] for host in layer.hosts] == [None, None]
    assert layer.hosts[0]["max_connections"] == 7
    assert 0 < channel_layer.measure_round_trip() < channel_layer.TIMEOUT_SECONDS
    configure_layer(CORE, hosts=[{"address": empty_redis.url, "socket_timeout": 30}])
    assert channel_layer.make_layer().hosts == [{"address": empty_redis.url, "socket_timeout": 30}]
    assert not channel_layer.reads_time_out()
