"""Close the connections of users who have signed out.

A connection belongs to a session. Sessions end without a signal: the sign-in of another user flushes them, a change of
one's own password replaces the key, code deletes rows. So while clients are connected, the session store is searched
about once per second for the keys that it no longer has, and those clients are checked.

What ends a session that is still stored, such as a changed password, raises the guard of its user. But a session may
end a moment after its guard changed, and a client may join in between, with a session that is about to end. So sessions
are read twice after a guard changed, and once after a client joined, as soon as the guard is known. A user without a
stream has no guard, and gets one by signing out: there, sessions are read when the user turns out to be deleted.

Event streams of clients without a session belong to their credentials, about which the authenticators of the project
are asked again. These are code of the project, and may wait for other servers. So they are called on threads of their
own, for one user at a time each: those of a user about whom one does not answer wait for it, and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from notifications.db.threads import DaemonExecutor, NoThread
from notifications.db.transactions import chunks
from notifications.db.unavailable import log_retried
from notifications.realtime import close_reasons
from notifications.realtime.auth.sessions import SignIn, check_sign_ins, find_ended
from notifications.realtime.pool import ThreadPool
from notifications.realtime.subscriber import Subscriber

if TYPE_CHECKING:  # which imports the hub
    from notifications.realtime.transports.sse import EventStream

logger = logging.getLogger(__name__)

#: Seconds until sessions are read: after a guard changed, after a client joined, after the database failed.
CHECK_DELAYS_SECONDS = (0.5, 2.0)
JOIN_DELAY_SECONDS = 2.0
RETRY_SECONDS = 1.0
MAX_SESSIONS_PER_QUERY = 100
#: Seconds between two searches for ended sessions, below the second that is promised for search and check together, and
#: at least how many times the CPU time of the last search: in Django's table of SQLite it takes 4 ms for 5,000 clients;
#: a store that loads each session takes longer.
SEARCH_INTERVAL_SECONDS = 0.9
SEARCH_PAUSE_FACTOR = 25
#: Threads on which authenticators are called.
THREADS = 4
#: Seconds after which another thread takes the calls of one that does not answer.
ANSWER_TIMEOUT_SECONDS = 10.0


class SessionChecker:
    """Read sessions of connected subscribers again, in ``pool``, and close those that are no longer signed in.

    ``find_subscribers(users)`` returns the connected subscribers of these user keys, or all for None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: ThreadPool,
        find_subscribers: Callable[[Iterable[Any] | None], list[Subscriber]],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._find_subscribers = find_subscribers
        self._scheduled: list[tuple[float, Subscriber]] = []  # (loop time, subscriber), ordered by time
        self._failed: set[Subscriber] = set()
        self._is_searching = False

    def start_searching(self) -> None:
        """Search for ended sessions from now on, for as long as clients are connected. Idempotent."""
        if not self._is_searching:
            self._is_searching = True
            self._loop.call_later(SEARCH_INTERVAL_SECONDS, self._search)

    def _search(self) -> None:
        keys = {each.session_key for each in self._find_subscribers(None) if each.session_key}
        if not keys:
            self._is_searching = False
            return

        def on_done(future: asyncio.Future[Any]) -> None:
            delay = RETRY_SECONDS
            if exc := future.exception():
                log_retried(logger, "Could not search for ended sessions", exc, level=logging.INFO)
            else:
                ended, cpu_seconds = future.result()
                delay = max(SEARCH_INTERVAL_SECONDS, SEARCH_PAUSE_FACTOR * cpu_seconds)
                found = [each for each in self._find_subscribers(None) if each.session_key in ended]
                # All seem to have ended while the store is away: those whose check has failed are checked again anyway.
                # Otherwise another user may be why it has failed.
                self.check(each for each in found if each not in self._failed or len(ended) < len(keys))
            self._loop.call_later(delay, self._search)

        self._pool.run(_find_ended_and_measure, list(keys)).add_done_callback(on_done)

    def schedule(self, subscribers: Iterable[Subscriber]) -> None:
        """Check these in 2 s, with others: they are new, or the guards of their users are not known yet."""
        due_at = self._loop.time() + JOIN_DELAY_SECONDS
        self._scheduled += [(due_at, subscriber) for subscriber in subscribers]

    def run_scheduled(self) -> None:
        """Check the scheduled subscribers that are due."""
        now = self._loop.time()
        due = 0
        while due < len(self._scheduled) and self._scheduled[due][0] <= now:
            due += 1
        if due:
            self.check([subscriber for _, subscriber in self._scheduled[:due]])
            del self._scheduled[:due]

    def check_changed_sessions(self, users: Iterable[Any]) -> None:
        """Check the subscribers of these user keys, whose guards have changed, twice."""
        users = list(users)
        if users:
            for delay in CHECK_DELAYS_SECONDS:
                self._loop.call_later(delay, lambda: self.check(self._find_subscribers(users)))

    def check(self, subscribers: Iterable[Subscriber]) -> None:
        """Close those of these subscribers that are no longer signed in."""
        connected = dict.fromkeys(subscriber for subscriber in subscribers if not subscriber.is_closed)
        for chunk in chunks(list(connected), MAX_SESSIONS_PER_QUERY):
            self._check_batch(chunk)

    def _check_batch(self, subscribers: list[Subscriber]) -> None:
        def on_done(future: asyncio.Future[Any]) -> None:
            if exc := future.exception():
                log_retried(logger, "Could not check sessions", exc)
                self._retry(subscribers)
                return
            for subscriber, is_signed_in in zip(subscribers, future.result(), strict=True):
                if not is_signed_in:
                    subscriber.close(close_reasons.SIGNED_OUT)

        sign_ins = [SignIn(user=each.user, session_key=each.session_key) for each in subscribers]
        self._pool.run(check_sign_ins, sign_ins).add_done_callback(on_done)

    def _retry(self, subscribers: list[Subscriber]) -> None:
        if not self._failed:
            self._loop.call_later(RETRY_SECONDS, self._check_failed)
        self._failed.update(subscribers)

    def _check_failed(self) -> None:
        failed, self._failed = self._failed, set()
        self.check(failed)


class CredentialChecker:
    """Ask about the unconfirmed streams of a user, close those that are refused and end those without an answer.

    ``find_streams(users)`` returns the connected clients of these user keys; other ones are never unconfirmed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        find_streams: Callable[[Iterable[Any]], Sequence[Any]],
    ) -> None:
        self._loop = loop
        self._find_streams = find_streams
        self._executor = DaemonExecutor(THREADS, "notifications-credentials", keep_connections=True)
        self._calls: dict[Any, Future[list[bool | None]]] = {}

    def check(self, user: Any) -> None:
        """Ask about the unconfirmed streams of a user (key) when the previous call for this user has returned."""
        streams: list[EventStream] = [each for each in self._find_streams([user]) if each.is_unconfirmed]
        if not streams or user in self._calls:
            return
        try:
            call = self._executor.submit(_ask, streams)
        except NoThread as exc:  # they are ended when the next question is due
            log_retried(logger, "Could not ask authenticators again", exc)
            return
        self._calls[user] = call
        # One that has not begun is made again.
        timer = self._loop.call_later(ANSWER_TIMEOUT_SECONDS, self._executor.give_up, call)

        def handle_answers() -> None:
            timer.cancel()
            del self._calls[user]
            if not call.cancelled() and call.exception() is None:
                for stream, is_accepted in zip(streams, call.result(), strict=True):
                    self._handle_answer(stream, is_accepted)
            self.check(user)

        def handle_answers_soon(call: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(handle_answers)

        call.add_done_callback(handle_answers_soon)

    def end_threads(self) -> list[threading.Thread]:
        """End the threads after their current calls, and return them."""
        return self._executor.end()

    def _handle_answer(self, stream: EventStream, is_accepted: bool | None) -> None:
        stream.is_unconfirmed = False
        if is_accepted is None:
            stream.end()
        elif not is_accepted:
            stream.close(close_reasons.SIGNED_OUT)


def _find_ended_and_measure(session_keys: list[str]) -> tuple[set[str], float]:
    started_at = time.thread_time()
    return find_ended(session_keys), time.thread_time() - started_at


def _ask(streams: list[EventStream]) -> list[bool | None]:
    """Return for each whether it is still accepted, or None if an authenticator raised an error."""
    return [_ask_about(stream) for stream in streams]


def _ask_about(stream: EventStream) -> bool | None:
    try:
        return stream.is_accepted and stream.is_accepted()
    except BaseException as exc:  # also SystemExit
        log_retried(logger, "Could not ask an authenticator again", exc)
        return None
