"""Rings from and to other processes through the channel layer of the settings: one group, one channel a process.

Both directions have a thread, an event loop and a layer of their own: a layer may be read in one loop only, and the
project's consumers may read theirs in the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from django.utils.module_loading import import_string

from notifications.db.threads import NoThread, start, start_thread
from notifications.realtime.doorbell import message as doorbell_message
from notifications.realtime.doorbell.retry import retry_forever

logger = logging.getLogger(__name__)

GROUP = "notifications.doorbell"
#: Seconds that a layer may take to do what it is asked.
TIMEOUT_SECONDS = 5.0
#: Seconds between two messages to oneself: one that is not received means that the connection is silent.
CHECK = 10.0
#: Seconds between two messages of a process: layers lose what comes faster than it is read.
COALESCE_SECONDS = 0.005
#: Users that wait to be told to others, at most; the position check finds those beyond.
WAITING = 5_000
#: Seconds of silence after which the saying thread ends, and for which the end of the process waits for it.
LINGER, END = 10.0, 1.0


def configured() -> str:
    """Return the dotted path of the settings' channel layer, or "" where none reaches other processes."""
    from channels.layers import DEFAULT_CHANNEL_LAYER, InMemoryChannelLayer, channel_layers

    path = channel_layers.configs.get(DEFAULT_CHANNEL_LAYER, {}).get("BACKEND", "")
    with contextlib.suppress(ImportError):  # what is wrong with it is said where it is made
        if path and issubclass(import_string(path), InMemoryChannelLayer):
            return ""
    return path


def try_out() -> float:
    """Send a message through a layer of our own; return the seconds until it is there. Raises what a layer raises."""
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

    in_loop(send())
    return seconds


class NotHeard(Exception):
    """The layer takes messages, and does not bring them."""


class LayerListener:
    """Calls ``heard(users, queue=…)`` from a thread of its own with what other processes than ``origin`` say.

    Every 10 s it joins the group again, because layers forget (channels_redis after a day, a Redis that is emptied
    at once), and calls itself: whoever does not hear itself begins anew, with a new layer.
    """

    def __init__(self, origin: str, heard: Callable[..., None]) -> None:
        self._origin = origin
        self._heard = heard
        self._ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._hears_itself = True
        self.hearing = False
        self._thread = threading.Thread(target=self._run, name="notifications-doorbell-layer", daemon=True)
        start(self._thread)

    def stop(self) -> None:
        """Leave the group and end the thread. Does not wait when called by the thread itself."""
        self._ended.set()
        if self._loop:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._loop.call_soon_threadsafe(self._end.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(TIMEOUT_SECONDS)

    def _run(self) -> None:
        def live(well: Callable[[], None]) -> None:
            in_loop(self._live(well))

        retry_forever("Doorbell: the channel layer", live, self._ended)

    async def _live(self, well: Callable[[], None]) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._ended.is_set():  # before there was a loop to tell
            return
        layer = make_layer()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            channel = await layer.new_channel()
            await layer.group_add(GROUP, channel)
        well()
        self.hearing = True
        steps = [self._hear(layer, channel), self._keep_joined(layer, channel), self._end.wait()]
        tasks = [asyncio.create_task(step) for step in steps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(Exception):  # it is away, or forgets us by itself
                async with asyncio.timeout(END):
                    await layer.group_discard(GROUP, channel)
        finally:
            self.hearing = False
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()

    async def _hear(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            if message.get("from") == self._origin:
                self._hears_itself = True
            if ring := doorbell_message.read(message, self._origin):
                users, queue = ring
                self._heard(users, queue=queue)

    async def _keep_joined(self, layer: Any, channel: str) -> None:
        while True:
            await asyncio.sleep(CHECK)
            if not self._hears_itself:
                self._hears_itself = True
                raise NotHeard("a process does not hear its own messages")
            self._hears_itself = False
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await layer.group_add(GROUP, channel)
                for message in doorbell_message.messages(self._origin, (), False):
                    await layer.group_send(GROUP, message)


class LayerPublisher:
    """``say`` tells other processes, from a thread of its own that is there while there is something to say.

    What a layer does not take is dropped.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        self._users: dict[Any, None] = {}
        self._queue = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more = asyncio.Event()
        self._told = threading.Event()
        self._told.set()
        self._ended = threading.Event()

    def say(self, users: Iterable[Any], queue: bool) -> None:
        """Tell the other processes soon. Never waits."""
        with self._lock:
            if self._ended.is_set():
                return
            for user in users:
                if len(self._users) >= WAITING:
                    break
                self._users[user] = None
            self._queue = self._queue or queue
            self._told.clear()
            if self._thread is None:
                try:
                    self._thread = start_thread(self._run, "notifications-doorbell-layer-says")
                except NoThread as exc:  # the next call tries again
                    logger.warning("A ring could not be told to other processes: %s", exc)
            elif self._loop:
                with contextlib.suppress(RuntimeError):  # between two loops; the next one looks first
                    self._loop.call_soon_threadsafe(self._more.set)

    def stop(self) -> None:
        """End the thread, after what it holds if that takes no longer than a second."""
        told = self._told.wait(END)
        with self._lock:
            self._ended.set()
            thread, loop = self._thread, self._loop
        if loop:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._more.set)
        if thread and told:
            thread.join(END)

    def _run(self) -> None:
        def live(well: Callable[[], None]) -> None:
            in_loop(self._live(well))

        while True:
            retry_forever("Doorbell: saying by the channel layer", live, self._ended)
            with self._lock:
                if self._ended.is_set() or not (self._users or self._queue):
                    self._thread = None
                    return

    async def _live(self, well: Callable[[], None]) -> None:
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        layer = make_layer()
        while not self._ended.is_set():
            self._more.clear()
            with self._lock:
                users, queue = list(self._users), self._queue
                self._users.clear()
                self._queue = False
                if not users and not queue:
                    self._told.set()
            if users or queue:
                await self._tell(layer, users, queue)
                well()
                continue
            try:
                async with asyncio.timeout(LINGER):
                    await self._more.wait()
            except TimeoutError:
                return

    async def _tell(self, layer: Any, users: Iterable[Any], queue: bool) -> None:
        for message in doorbell_message.messages(self._origin, users, queue):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await layer.group_send(GROUP, message)
            await asyncio.sleep(COALESCE_SECONDS)


class Loop(asyncio.SelectorEventLoop):
    """Resolves names in its own thread: at the end of the process, when the last rings are told, no executor works."""

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        return socket.getaddrinfo(host, port, family, type, proto, flags)


def make_layer() -> Any:
    """Return a layer of our own, as the settings say."""
    from channels.layers import DEFAULT_CHANNEL_LAYER, channel_layers

    return channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a new loop, and close the loop. channels_redis closes its connections with it."""
    runner = asyncio.Runner(loop_factory=Loop)
    try:
        runner.run(work)
    finally:
        try:
            runner.close()
        except Exception:  # of closing connections to what is away; the second time there are none
            runner.close()
