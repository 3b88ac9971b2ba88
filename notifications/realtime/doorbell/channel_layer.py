"""Rings to and from other processes through the project's channel layer: one group, with one channel per process.

Sending and receiving each have a thread, an event loop and a layer instance of their own: a layer may be read in one
loop only, and the project's consumers may read theirs in the server's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any

from notifications.db.imports import import_path
from notifications.db.supervised import SupervisedThread
from notifications.realtime.doorbell.other_processes import (
    COALESCE_SECONDS,
    Publisher,
    build_messages,
    parse_message,
)
from notifications.streams.carrying import Changes
from notifications.streams.rings import NO_CHANGES

logger = logging.getLogger(__name__)

GROUP = "notifications.doorbell"
#: Seconds for one operation of the layer.
TIMEOUT_SECONDS = 5.0
#: Seconds between two messages to this process itself. One that does not arrive means that the connection is dead.
SELF_CHECK_SECONDS = 10.0
#: Users waiting to be published; the position check finds the changes of those above the limit.
MAX_PENDING_USERS = 5_000
#: Seconds without a ring after which the publishing thread ends.
IDLE_SECONDS = 10.0
#: Seconds to leave the group.
LEAVE_TIMEOUT_SECONDS = 1.0


def configured_path() -> str:
    """Return the dotted path of the project's channel layer, or "" if it has none that reaches other processes."""
    from channels.layers import DEFAULT_CHANNEL_LAYER, InMemoryChannelLayer, channel_layers

    path = channel_layers.configs.get(DEFAULT_CHANNEL_LAYER, {}).get("BACKEND", "")
    try:
        found = import_path(path) if path else None
    except ImportError:  # make_layer() raises it, where it is logged; so does a check
        return path
    return "" if isinstance(found, type) and issubclass(found, InMemoryChannelLayer) else path


def reads_time_out() -> bool:
    """Return whether reads of the layer have the default timeout of the package redis, 5 s from version 8 on."""
    if configured_path() != "channels_redis.core.RedisChannelLayer":
        return False
    from channels.layers import DEFAULT_CHANNEL_LAYER, channel_layers

    hosts = channel_layers.make_backend(DEFAULT_CHANNEL_LAYER).hosts
    return any("socket_timeout" not in host for host in hosts)


def measure_round_trip() -> float:
    """Send a message through a new layer to itself and return the seconds it took. Raises the errors of the layer."""
    seconds = 0.0

    async def send() -> None:
        nonlocal seconds
        layer = make_layer()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            channel = await layer.new_channel()
            start = time.perf_counter()
            await layer.send(channel, {"type": "notifications.try"})
            await layer.receive(channel)
            seconds = time.perf_counter() - start

    run_in_new_loop(send())
    return seconds


class SelfCheckFailed(Exception):
    """The layer accepts messages but does not deliver them."""


class LayerListener(SupervisedThread):
    """Call ``on_ring(users, queue=…)``, in a thread of its own, with rings of other processes than ``origin``.

    Every 10 s it joins the group again, because layers forget members (channels_redis after a day, a flushed Redis
    immediately), and sends a message to itself. If that message does not arrive, it starts over with a new layer.
    """

    def __init__(self, origin: str, on_ring: Callable[..., None]) -> None:
        self._origin = origin
        self._on_ring = on_ring
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = asyncio.Event()
        self._has_own_message = True
        self.is_listening = False
        super().__init__(
            "notifications-doorbell-layer", lambda: run_in_new_loop(self._listen()), has_trace=False
        )
        self.wake()

    def stop(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Leave the group and end the thread. Does not wait if called in this thread."""
        super().stop(timeout)

    def _interrupt(self) -> None:
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(self._stop_requested.set)

    async def _listen(self) -> None:
        self._stop_requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self.is_stopped:  # stop() may have run before the loop existed
            return
        layer = make_layer()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            channel = await layer.new_channel()
            await layer.group_add(GROUP, channel)
        self.note_success()
        self.is_listening = True
        steps = [
            self._receive(layer, channel),
            self._stay_joined(layer, channel),
            self._stop_requested.wait(),
        ]
        tasks = [asyncio.create_task(step) for step in steps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            try:
                async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
                    await layer.group_discard(GROUP, channel)
            except Exception as exc:  # the layer is unreachable: it forgets this channel later
                logger.debug("Could not leave the group of the channel layer: %r", exc)
        finally:
            self.is_listening = False
            done = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            if message.get("from") == self._origin:
                self._has_own_message = True
            if ring := parse_message(message, self._origin):
                users, queue = ring
                self._on_ring(users, queue=queue)

    async def _stay_joined(self, layer: Any, channel: str) -> None:
        while True:
            await asyncio.sleep(SELF_CHECK_SECONDS)
            if not self._has_own_message:
                self._has_own_message = True
                raise SelfCheckFailed("a message of this process to itself was not delivered")
            self._has_own_message = False
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await layer.group_add(GROUP, channel)
                for message in build_messages(self._origin, (), False):
                    await layer.group_send(GROUP, message)


class LayerPublisher(Publisher):
    """Publishes rings without what they carry. Messages that the layer rejects are dropped."""

    def __init__(self, origin: str) -> None:
        self._layer: Any = None
        name = "notifications-doorbell-layer-publisher"
        super().__init__(origin, name, idle_seconds=lambda: IDLE_SECONDS)

    def publish(self, users: Iterable[Any], queue: bool, changes: Changes = NO_CHANGES) -> None:
        """Publish a ring soon, without what it carries. Never blocks."""
        super().publish(islice(users, max(0, MAX_PENDING_USERS - len(self._users))), queue)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        with new_loop() as runner:
            self._run, self._layer = runner.run, None
            yield

    def _send_combined(self, users: dict[Any, Any], queue: bool) -> None:
        try:
            self._run(self._send(users, queue))
        except Exception:  # of a connection that was closed: redis 8 does not connect again
            self._layer = None
            self._run(self._send(users, queue))

    async def _send(self, users: Iterable[Any], queue: bool) -> None:
        self._layer = self._layer or make_layer()
        for message in build_messages(self._origin, users, queue):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._layer.group_send(GROUP, message)
            await asyncio.sleep(COALESCE_SECONDS)


class InlineResolverLoop(asyncio.SelectorEventLoop):
    """Resolve host names in the loop's thread: at interpreter exit, when the last rings are sent, executors fail."""

    async def getaddrinfo(  # type: ignore[override]
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        return socket.getaddrinfo(host, port, family, type, proto, flags)


def make_layer() -> Any:
    """Return a new instance of the project's channel layer."""
    from channels.layers import DEFAULT_CHANNEL_LAYER, channel_layers

    layer = channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)
    # redis 8 gives up a read after 5 s, by default. So long channels_redis waits for a message, so each wait in which
    # none came raised an error and closed the connection (django/channels_redis#422).
    hosts = getattr(layer, "hosts", None) or ()
    if all(isinstance(host, dict) for host in hosts):  # as channels_redis has them
        layer.hosts = [{"socket_timeout": None, **host} for host in hosts]
    return layer


@contextlib.contextmanager
def new_loop() -> Iterator[asyncio.Runner]:
    """Yield the runner of a new event loop, and close that. channels_redis closes its connections with the loop."""
    runner = asyncio.Runner(loop_factory=InlineResolverLoop)
    try:
        yield runner
    finally:
        try:
            runner.close()
        except Exception:  # closing connections to an unreachable server; the second time there are none left
            runner.close()


def run_in_new_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a new event loop and close the loop."""
    with new_loop() as runner:
        runner.run(coroutine)
