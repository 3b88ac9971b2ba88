"""The channel layer as a way between processes: what layers forget, lose, or share with the project."""

import asyncio
import logging
import threading
import time

import pytest
from channels.layers import get_channel_layer

from notifications.realtime.doorbell import Doorbell
from notifications.realtime.doorbell import layer as doorbell_layer
from notifications.realtime.doorbell import message as doorbell_message
from notifications.realtime.doorbell.layer import LayerListener, LayerPublisher
from tests.realtime import layers
from tests.support.network import Listener
from tests.support.redis_server import Redis
from tests.support.waiting import wait_until

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


@pytest.fixture
def empty_redis():
    """A Redis of the test's own."""
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def use(settings):
    """use(backend, **config): the project's channel layer."""

    def layer(backend, **config):
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}

    return layer


@pytest.fixture
def hears(empty_redis):
    """hears() makes a Hearer that has joined; `users` are those it was told."""
    made = []

    def make(origin="me", wait=True):
        users = []
        hearer = LayerListener(origin, lambda some, queue: users.extend(some))
        hearer.users = users
        made.append(hearer)
        if wait:
            wait_until(lambda: hearer.hearing)
        return hearer

    yield make
    for hearer in made:
        hearer.stop()


@pytest.fixture
def says(empty_redis):
    """A Sayer; what it holds is told at the end."""
    sayer = LayerPublisher("another")
    yield sayer
    sayer.stop()


class BlackHole(Listener):
    """Takes connections, and never answers."""

    def __init__(self):
        self.end = threading.Event()
        super().__init__()

    def serve(self, connection):
        self.end.wait()
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
def test_only_a_layer_between_processes_is_taken(settings, configured, path):
    """In memory it would reach nobody else, and hide the way by the database."""
    settings.CHANNEL_LAYERS = configured
    assert doorbell_layer.configured() == path


@pytest.mark.parametrize("backend", [CORE, PUBSUB])
def test_saying_never_waits(use, backend):
    """For a broker that does not answer nobody waits, nor the end of the process for long; what waits is bounded."""
    with BlackHole() as hole:
        use(backend, hosts=[f"redis://127.0.0.1:{hole.port}"])
        sayer, began = LayerPublisher("me"), time.monotonic()
        for start in range(0, 20_000, 100):
            sayer.say(range(start, start + 100), False)
        assert time.monotonic() - began < doorbell_layer.TIMEOUT_SECONDS
        assert len(sayer._users) <= doorbell_layer.WAITING
        began = time.monotonic()
        sayer.stop()
        assert time.monotonic() - began < doorbell_layer.END + doorbell_layer.TIMEOUT_SECONDS / 2
        hole.end.set()


def test_a_burst_is_not_lost(use, hears, says, empty_redis):
    """The core layer holds a hundred messages of a process, and loses the rest."""
    use(CORE, hosts=[empty_redis.url])
    hearer = hears()
    for user in range(1000):
        says.say([user], False)
    wait_until(lambda: set(hearer.users) == set(range(1000)))


def test_rings_are_gathered(use, hears, says, empty_redis, monkeypatch):
    """What comes within 5 ms goes in one message."""
    monkeypatch.setattr(layers.Counting, "sent", 0)
    use("tests.realtime.layers.Counting", hosts=[empty_redis.url])
    hearer = hears()
    began = time.monotonic()
    for user in range(500):
        says.say([user], False)
        time.sleep(0.0005)
    wait_until(lambda: set(hearer.users) == set(range(500)))
    assert layers.Counting.sent < (time.monotonic() - began) / doorbell_layer.COALESCE_SECONDS + 2


def test_the_project_may_read_its_layer_at_the_same_time(use, hears, says, empty_redis):
    """channels_redis refuses two loops on one layer, so ours is another one."""
    use(CORE, hosts=[empty_redis.url])
    hearer = hears()

    async def converse():
        layer = get_channel_layer()
        channel = await layer.new_channel()
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        says.say([1], False)
        await asyncio.to_thread(wait_until, lambda: hearer.users == [1])
        await layer.send(channel, {"type": "chat"})
        return await asyncio.wait_for(receiving, 10)

    assert asyncio.run(converse()) == {"type": "chat"}


def test_a_layer_that_forgets_is_joined_again(use, hears, says, empty_redis, monkeypatch, caplog):
    """An emptied Redis has no groups any more, and tells nobody."""
    monkeypatch.setattr(doorbell_layer, "CHECK", 1.0)
    use(CORE, hosts=[empty_redis.url])
    hearer = hears()
    empty_redis_now(empty_redis)

    def heard_again():
        says.say([1], False)
        return hearer.users

    wait_until(heard_again)
    assert "interrupted" not in caplog.text


def test_the_first_ring_after_a_restart_of_the_broker_is_heard(use, hears, says, empty_redis):
    """The connection by which it was said before is dead."""
    use(CORE, hosts=[empty_redis.url])
    hearer = hears()
    says.say([1], False)
    wait_until(lambda: hearer.users == [1])
    empty_redis.kill()
    wait_until(lambda: not hearer.hearing)
    empty_redis.start()
    wait_until(lambda: hearer.hearing)
    says.say([2], False)
    wait_until(lambda: hearer.users == [1, 2])


def empty_redis_now(server):
    import redis

    with redis.Redis.from_url(server.url) as client:
        client.flushall()


def test_who_does_not_hear_itself_begins_anew(use, hears, empty_redis, monkeypatch, caplog):
    """A layer that loses everything is said in the log, and tried again."""
    monkeypatch.setattr(doorbell_layer, "CHECK", 0.05)
    use("tests.realtime.layers.Dropping", hosts=[empty_redis.url])
    with caplog.at_level(logging.INFO):
        hears()
        wait_until(lambda: "does not hear its own messages" in caplog.text)
        wait_until(lambda: "Doorbell: the channel layer works again." in caplog.text)


def test_a_layer_that_cannot_be_made_is_said(use, hears, caplog, monkeypatch):
    """Once, with the reason, however often it is tried."""
    tried, make = [], doorbell_layer.make_layer
    monkeypatch.setattr(doorbell_layer, "make_layer", lambda: tried.append(1) or make())
    use("no.such.Layer")
    hears(wait=False)
    wait_until(lambda: len(tried) == 4)
    assert caplog.text.count("Cannot import BACKEND 'no.such.Layer'") == 1


def test_strangers_in_the_group(use, hears, says, empty_redis):
    """Messages of others are passed over."""
    use(PUBSUB, hosts=[empty_redis.url])
    hearer = hears()

    async def talk():
        layer = get_channel_layer()
        for message in ({"type": "x"}, {"type": "doorbell", "users": ["no number"], "queue": False}):
            await layer.group_send(doorbell_layer.GROUP, message)

    asyncio.run(talk())
    says.say([2], False)
    wait_until(lambda: hearer.users == [2])


def test_who_stops_leaves_the_group(use, hears, empty_redis):
    """Nothing is kept for it, and its thread is gone."""
    import redis

    use(CORE, hosts=[empty_redis.url])
    hearer = hears()
    with redis.Redis.from_url(empty_redis.url) as client:
        assert client.zcard(f"asgi:group:{doorbell_layer.GROUP}") == 1
        hearer.stop()
        assert client.zcard(f"asgi:group:{doorbell_layer.GROUP}") == 0
    assert not hearer._thread.is_alive()


def test_silence_ends_the_saying_thread(use, says, hears, empty_redis, monkeypatch):
    """And the next ring starts another."""
    monkeypatch.setattr(doorbell_layer, "LINGER", 0.05)
    use(PUBSUB, hosts=[empty_redis.url])
    hearer = hears()
    for user in (1, 2):
        says.say([user], False)
        wait_until(lambda user=user: user in hearer.users)
        wait_until(lambda: says._thread is None)


def test_the_way_is_said_once(settings, caplog, empty_redis):
    """The layer before the database, in the log of each process."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": [empty_redis.url]}}}
    with caplog.at_level(logging.INFO):
        bell = Doorbell()
        bell.announce()
        bell.listen(lambda users, queue: None)()
        bell.listen(lambda users, queue: None)()
    assert caplog.text.count(f"Doorbell: channel layer {PUBSUB}") == 1


def test_messages_of_the_layer_have_its_type():
    """Consumers of Channels dispatch by it."""
    assert next(doorbell_message.messages("me", [1], False))["type"] == "doorbell"
