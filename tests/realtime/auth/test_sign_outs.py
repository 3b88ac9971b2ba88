"""Clients whose session has ended are closed on every transport, and are sent nothing afterwards."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.contrib.sessions.models import Session
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone

from notifications.api import notify
from notifications.models import Stream
from notifications.realtime.auth import sign_outs
from notifications.realtime.auth.sign_outs import SessionChecker
from notifications.realtime.hub import current_hub
from notifications.signals import rung
from tests.realtime import rows
from tests.realtime.conftest import block_sends, in_thread, sign_in, until

#: The real delays, before a fixture shortens them.
REAL_CHECK_DELAYS_SECONDS = sign_outs.CHECK_DELAYS_SECONDS
REAL_SEARCH_INTERVAL_SECONDS = sign_outs.SEARCH_INTERVAL_SECONDS


@pytest.fixture
def set_seconds(monkeypatch):
    """set_seconds(RETRY=1) sets a delay or an interval of the checks."""
    return lambda **seconds: [
        monkeypatch.setattr(sign_outs, f"{name}_SECONDS", value) for name, value in seconds.items()
    ]


@pytest.fixture(autouse=True)
def shorten_delays(set_ticks, set_seconds, short_ticks):
    """Shorten ticks and delays, and disable the checks that a test does not enable itself."""
    set_ticks(SESSION_CHECK=10**9)
    set_seconds(CHECK_DELAYS=(0.05, 0.2), JOIN_DELAY=10**9, SEARCH_INTERVAL=10**9)


@pytest.fixture
def short_join_delay(shorten_delays, set_seconds):
    """Look for users without a stream soon after they have joined."""
    set_seconds(JOIN_DELAY=0.2)


@contextmanager
def no_rings():
    """Drop the rings of this process."""
    receivers, rung.receivers = rung.receivers, []
    try:
        yield
    finally:
        rung.receivers = receivers


def session_of(cookie):
    return Session.objects.filter(pk=cookie.partition("=")[2])


class Browser:
    """A session with a socket, events and a long poll."""

    async def open(self, connect, send_request, user):
        before = len(current_hub().subscribers())
        self.cookie = await in_thread(sign_in, user)
        self.socket = await connect(cookie=self.cookie)
        await self.socket.start()
        self.events = await send_request("events/", cookie=self.cookie)
        await self.events.start()
        self.poll = await send_request(
            "sync/", cookie=self.cookie, headers={"Prefer": "wait=20", "If-None-Match": "*"}
        )
        await until(
            lambda: (
                [subscriber.is_synced for subscriber in current_hub().subscribers()] == [True] * (before + 3)
            )
        )
        return self

    async def assert_signed_out(self):
        """Assert that each client gets 4401 or 401, and nothing after it."""
        bye = await self.socket.receive_bye()
        assert (bye["code"], bye["reason"], bye["reconnect"]) == (4401, "signed_out", False)
        event = await self.events.receive("bye")
        assert (event["data"]["code"], event["data"]["reconnect"]) == (4401, False)
        assert await self.events.receive() is None
        assert (await self.poll.wait_for_response()).status == 401

    async def assert_connected(self):
        """Assert that no client is closed."""
        await self.socket.receive_beat_only()
        assert not self.events.task.done() and not self.poll.task.done()


@pytest.fixture
async def device(connect, send_request, user):
    """The browser of a user with a notification, who therefore has a stream."""
    await in_thread(notify, user, "note")
    return await Browser().open(connect, send_request, user)


class Directory(ModelBackend):
    """A backend that reads users from another server, which does not answer for one."""

    absent = None

    def get_user(self, user_id):
        if user_id == self.absent:
            raise ConnectionError("no answer")
        return super().get_user(user_id)


async def test_a_user_who_cannot_be_read_keeps_no_session_of_others_open(
    connect, user, other_user, settings, monkeypatch, set_seconds
):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Directory"]
    set_seconds(SEARCH_INTERVAL=0.05, RETRY=10**9)
    cookie = await in_thread(sign_in, user)
    socket, other = await connect(cookie=cookie), await connect(other_user)
    await socket.start()
    await other.start()
    monkeypatch.setattr(Directory, "absent", other_user.pk)
    current_hub()._session_checker.check(current_hub().subscribers())  # as every 60 s
    await in_thread(session_of(cookie).delete)
    assert (await socket.receive_bye())["code"] == 4401
    await other.receive_beat_only()


class SessionStore(DatabaseSession):
    """A store that does not answer until the event is set."""

    is_resumed = threading.Event()

    def load(self):
        self.is_resumed.wait(60)
        return super().load()


@pytest.mark.nightly
async def test_a_silent_session_store_keeps_no_lost_ring_unnoticed(connect, user, settings):
    socket = await connect(scope_user=user)
    await socket.start()
    settings.SESSION_ENGINE = __name__
    handshakes = [asyncio.create_task(connect(cookie=f"sessionid={'k' * 31}{number}")) for number in range(3)]
    await asyncio.sleep(0.3)
    with no_rings():
        await in_thread(notify, user, "lost")
        assert (await socket.receive("change"))["items"][0]["title"] == "lost"
    assert not any(handshake.done() for handshake in handshakes)
    SessionStore.is_resumed.set()
    await asyncio.gather(*handshakes, return_exceptions=True)


def record_statements(wrap_statements, pattern):
    """Return a list to which statements with this pattern are appended."""
    recorded = []

    def record(execute, sql, *args):
        if re.search(pattern, sql):
            recorded.append(sql)
        return execute(sql, *args)

    wrap_statements(record)
    return recorded


def in_other_thread(function, *args):
    """Call a function that uses a connection of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(function, *args).result()
        thread.submit(connections.close_all).result()


def fail_four_times(wrap_statements, pattern):
    """Have the next four statements with this pattern fail. Returns the errors that are left."""
    failures = []

    def fail(execute, sql, *args):
        if failures and re.search(pattern, sql):
            raise failures.pop()
        return execute(sql, *args)

    wrap_statements(fail)
    return failures


#: What reads sessions to check them, to search for those that have ended, and users to check that they exist.
CHECKED, SEARCHED, DELETED = (
    r"SELECT .*session_data. FROM .django_session.",
    "NOT EXISTS",
    r'SELECT "\w+"."id"( AS "pk")? FROM "\w+" WHERE "\w+"."id" IN',
)


def sign_out(cookie):
    client = Client()
    client.cookies.load(cookie)
    client.logout()


def change_password(user):
    user.set_password("new")
    user.save()


def deactivate(user):
    user.is_active = False
    user.save()


async def test_sign_out_closes_only_its_session(connect, send_request, user, device):
    """A sign-out closes the clients of its session; another session of the same user stays open."""
    other_browser = await Browser().open(connect, send_request, user)
    await in_thread(sign_out, device.cookie)
    await device.assert_signed_out()
    await other_browser.assert_connected()


async def test_session_that_ends_after_the_guard_change(wrap_statements, device, user):
    """A second check finds a session that was deleted after the first: the sign-out signal precedes the deletion."""
    assert REAL_CHECK_DELAYS_SECONDS == (0.5, 2.0)
    checks = []

    def delete_after_the_check(execute, sql, *args):
        result = execute(sql, *args)
        if re.search(CHECKED, sql):
            checks.append(sql)
            if len(checks) == 1:
                in_other_thread(session_of(device.cookie).delete)
        return result

    wrap_statements(delete_after_the_check)
    await in_thread(user_logged_out.send, type(user), request=None, user=user)
    await device.assert_signed_out()
    assert len(checks) == 2


@pytest.mark.parametrize("end", [change_password, deactivate])
async def test_password_change_and_deactivation_close_all_sessions(connect, send_request, user, device, end):
    """A changed password and a deactivation close all sessions of the user."""
    second = await Browser().open(connect, send_request, user)
    await in_thread(end, user)
    await device.assert_signed_out()
    await second.assert_signed_out()


def deactivate_in_bulk(user):
    """Deactivate a user as directory syncs do: no signal, and neither guard nor session changes."""
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)


async def test_users_who_are_deactivated_without_a_signal(
    connect, send_request, user, other_user, device, monkeypatch
):
    """All clients of a user who was deactivated by ``update()`` are closed; those of other users are not."""
    other = await Browser().open(connect, send_request, other_user)
    without_session = await connect(scope_user=user)
    await without_session.start()
    await in_thread(deactivate_in_bulk, user)
    await device.assert_signed_out()
    assert (await without_session.receive_bye())["code"] == 4401
    await other.assert_connected()


async def test_deleted_user_is_closed(device, user):
    """All clients of a deleted user are closed; before that they may get a reset without items."""
    await in_thread(user.delete)
    frames = [await device.socket.receive()]
    while frames[-1]["op"] != "bye":
        frames.append(await device.socket.receive())
    assert all(frame["reset"] and not frame["items"] for frame in frames[:-1])
    assert frames[-1]["code"] == 4401
    await device.socket.wait_until_closed()
    events = []
    while event := await device.events.receive():
        events.append(event)
    assert (events[-1]["event"], events[-1]["data"]["code"]) == ("bye", 4401)
    assert (await device.poll.wait_for_response()).status in (304, 401)


@pytest.mark.parametrize("rings", [True, False])
async def test_deleted_user_without_stream_is_closed(connect, user, set_ticks, rings, short_join_delay):
    """A deleted user without a stream, so without a guard, is found by a ring or by the position check."""
    socket = await connect(user)
    await socket.start()
    if rings:
        set_ticks(POSITION_CHECK=10**9)
    await until(lambda: not current_hub()._session_checker._scheduled)
    with nullcontext() if rings else no_rings():
        await in_thread(user.delete)
        assert (await socket.receive_bye())["code"] == 4401


async def test_deleted_user_whose_stream_is_created_anew_is_closed(
    connect, user, set_ticks, short_join_delay
):
    """A notification after the deletion creates a stream. The hub, which knew of none, has seen neither."""
    set_ticks(POSITION_CHECK=10**9)
    socket = await connect(user)
    await socket.start()
    await until(lambda: not current_hub()._session_checker._scheduled)
    with no_rings():
        key = user.pk
        await in_thread(user.delete)
        await in_thread(Stream.objects.create, user_id=key)
        set_ticks(POSITION_CHECK=1)
        assert (await socket.receive_bye())["code"] == 4401


async def test_first_notification_checks_no_sessions(wrap_statements, connect, user, short_join_delay):
    """The stream that it creates is no sign of a sign-out; a sign-out that follows is one."""
    checks = record_statements(wrap_statements, CHECKED)
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await socket.start()
    await until(lambda: len(checks) > 1 and not current_hub()._session_checker._scheduled)
    checks.clear()
    await in_thread(notify, user, "The first")
    assert (await socket.receive("change"))["seq"] == 1
    assert current_hub().users[user.pk].guard == 0
    await asyncio.sleep(0.3)  # longer than after a change of the guard
    assert not checks
    await in_thread(sign_out, cookie)
    assert (await socket.receive_bye())["code"] == 4401


async def test_users_without_stream_are_not_checked_repeatedly(
    wrap_statements, connect, user, set_ticks, short_join_delay
):
    """The sessions of users without a stream are checked once after they connect, not at each position check."""
    set_ticks(POSITION_CHECK=1)
    socket = await connect(user)
    await socket.start()
    checks, searches = (record_statements(wrap_statements, pattern) for pattern in (CHECKED, DELETED))
    await until(lambda: checks and len(searches) > 20)
    assert len(checks) == 1
    await socket.receive_beat_only()


async def test_rings_without_a_stream_share_a_search(wrap_statements, connect, user):
    """While the search for deleted users takes long, further rings queue none behind it, where handshakes wait."""
    gate = threading.Event()
    wrap_statements(
        lambda execute, sql, *args: (re.search(DELETED, sql) and gate.wait(30), execute(sql, *args))[1]
    )
    searches = record_statements(wrap_statements, DELETED)
    socket = await connect(user)
    await socket.start()
    job = await in_thread(rows.job, user)
    await socket.receive("jobs")
    await until(lambda: searches)
    for current in range(5):
        await in_thread(rows.change, job, progress_current=current)
        await socket.receive("jobs")
    assert len(searches) == 1
    gate.set()


async def test_expired_session_is_closed(device, set_ticks):
    """An expired session is found by the periodic check of all sessions."""
    await in_thread(session_of(device.cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await device.assert_connected()
    set_ticks(SESSION_CHECK=2)
    await device.assert_signed_out()


async def test_expired_session_is_found_by_the_search(only_search, device):
    """An expired session ends its clients as a deleted one does."""
    await in_thread(session_of(device.cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await device.assert_signed_out()


@pytest.fixture(params=["db", "cached_db", "cache", "file"])
def engine(request, settings, tmp_path):
    """The session engine, which is asked for sessions while nothing else checks them."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)


@pytest.fixture
def only_search(monkeypatch, shorten_delays, set_seconds):
    """Only the search finds ended sessions: rings, guards and the check of all sessions do not."""
    assert REAL_SEARCH_INTERVAL_SECONDS < 1
    set_seconds(SEARCH_INTERVAL=0.05)
    monkeypatch.setattr(SessionChecker, "check_changed_sessions", lambda self, users: None)


def sign_in_over(cookie, other_user):
    """Sign another user in, in the browser of the cookie: Django flushes the session without a sign-out."""
    client = Client()
    client.cookies.load(cookie)
    client.force_login(other_user)


def replace_key(cookie, other_user):
    """Give the session a new key, as a change of one's own password does."""
    client = Client()
    client.cookies.load(cookie)
    client.session.cycle_key()


def delete_session(cookie, other_user):
    client = Client()
    client.cookies.load(cookie)
    client.session.delete()


@pytest.mark.parametrize("end", [sign_in_over, replace_key, delete_session])
async def test_session_that_ends_without_a_signal(
    engine, only_search, connect, send_request, user, other_user, end
):
    """The clients of a session whose key the store no longer has are closed; those of other sessions are not."""
    device = await Browser().open(connect, send_request, user)
    other_browser = await Browser().open(connect, send_request, user)
    await in_thread(end, device.cookie, other_user)
    await device.assert_signed_out()
    await other_browser.assert_connected()


async def test_outage_of_the_session_store_closes_nothing(wrap_statements, only_search, device, set_seconds):
    """While the store cannot be asked no client is closed; the first search that succeeds closes what has ended."""
    set_seconds(RETRY=0.05)
    failures = fail_four_times(wrap_statements, SEARCHED)
    failures += [OperationalError("gone")] * 4
    await until(lambda: not failures)
    await device.assert_connected()
    await in_thread(session_of(device.cookie).delete)
    await device.assert_signed_out()


async def test_search_pauses_in_proportion_to_its_cost(device, monkeypatch, set_seconds):
    """A search that takes 0.2 s of CPU time is repeated after 5 s, and none runs without clients."""
    delays = []
    checker = current_hub()._session_checker
    monkeypatch.setattr(sign_outs, "_find_ended_and_measure", lambda keys: (set(), 0.2))
    fake_loop = SimpleNamespace(call_later=lambda delay, *call: delays.append(delay), time=lambda: 0.0)
    monkeypatch.setattr(checker, "_loop", fake_loop)
    set_seconds(SEARCH_INTERVAL=REAL_SEARCH_INTERVAL_SECONDS)
    checker._search()
    await until(lambda: delays)
    assert delays == [5.0]
    monkeypatch.setattr(checker, "_find_subscribers", lambda users: [])
    checker._search()
    assert delays == [5.0] and not checker._is_searching


async def test_sign_out_with_lost_ring(device, user):
    """Without a ring, the position check finds the new guard."""
    with no_rings():
        await in_thread(change_password, user)
        await device.assert_signed_out()


@pytest.mark.parametrize("sends_hello", [True, False])
@pytest.mark.parametrize("has_other_socket", [True, False])
async def test_session_that_ends_before_joining(
    wrap_statements, connect, user, has_other_socket, sends_hello, short_join_delay
):
    """A session that ends between its authentication and the hub's first read of the guard is checked again."""
    if has_other_socket:
        await (await connect(user)).start()
    cookie = await in_thread(sign_in, user)
    reads = []

    def sign_out_after_the_read(execute, sql, *args):
        result = execute(sql, *args)
        if re.search(CHECKED, sql) and not reads:
            reads.append(sql)
            in_other_thread(sign_out, cookie)
        return result

    wrap_statements(sign_out_after_the_read)
    socket = await connect(cookie=cookie)
    if sends_hello:
        socket.send_frame("hello", epoch=None, seq=None)
    # On a busy machine the session is read before the catch-up has begun.
    while (frame := await socket.receive())["op"] != "bye":
        assert sends_hello and frame["op"] in ("welcome", "sync"), frame
    assert frame["code"] == 4401
    assert reads


async def test_sign_out_before_hello(connect, user, set_ticks, short_join_delay):
    """A session that ends before hello is closed, although the hub has not read the user's guard yet."""
    set_ticks(POSITION_CHECK=10**9)
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await in_thread(sign_out, cookie)
    assert (await socket.receive_bye())["code"] == 4401


async def test_pending_frames_are_dropped_at_sign_out(connect, send_request, user):
    """Frames that the server has not accepted when the session ends are dropped."""
    cookie = await in_thread(sign_in, user)
    socket, events = await connect(cookie=cookie), await send_request("events/", cookie=cookie)
    await socket.start()
    await events.start()
    async with block_sends(socket), block_sends(events):
        for number in range(5):
            await in_thread(notify, user, f"secret {number}")
            await until(
                lambda seq=number + 1: all(
                    subscriber.position == seq for subscriber in current_hub().subscribers()
                )
            )
        await in_thread(sign_out, cookie)
        await until(lambda: not current_hub().subscribers())
    frames = [await socket.receive()]
    while frames[-1]["op"] != "bye":
        frames.append(await socket.receive())
    assert len(frames) <= 2  # the frame that was being sent, and the bye
    names = []
    while event := await events.receive():
        names.append(event["event"])
    assert names[-1] == "bye" and len(names) <= 2


async def test_database_outage_closes_no_session(wrap_statements, device, user, set_seconds):
    """If the database fails, the check is retried and closes no session until it succeeds."""
    set_seconds(RETRY=0.05)
    failures = fail_four_times(wrap_statements, CHECKED)
    await in_thread(sign_out, device.cookie)
    failures += [OperationalError("gone")] * 4
    await device.assert_signed_out()
    assert not failures


async def test_users_of_project_middleware(wrap_statements, connect, user, other_user):
    """Clients of middleware without a session stay connected as long as their user is active."""
    first, second = await connect(scope_user=user), await connect(scope_user=other_user)
    await first.start()
    await second.start()
    checks = record_statements(wrap_statements, r'SELECT .*"password".* IN \(')
    await in_thread(change_password, user)
    await until(lambda: len(checks) >= 2)
    await first.receive_beat_only()
    await in_thread(deactivate, user)
    assert (await first.receive_bye())["code"] == 4401
    await second.receive_beat_only()
