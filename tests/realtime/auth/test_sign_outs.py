"""Clients whose session has ended are closed on every transport, and are sent nothing afterwards."""

import threading
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from notifications.api import notify
from notifications.models import Stream
from notifications.realtime import hub, pool
from notifications.realtime.auth import handshakes, sessions, sign_outs
from notifications.realtime.auth.sign_outs import SessionChecker
from notifications.realtime.doorbell import _handle_rung
from notifications.realtime.doorbell.sqlite import SqliteListener
from notifications.realtime.hub import current_hub
from notifications.signals import rung
from tests.realtime import rows
from tests.realtime.conftest import block_sends, in_thread, sign_in, until

#: The real delays, before a fixture shortens them.
REAL_CHECK_DELAYS_SECONDS = sign_outs.CHECK_DELAYS_SECONDS
REAL_SEARCH_INTERVAL_SECONDS = sign_outs.SEARCH_INTERVAL_SECONDS
REAL_TICK_SECONDS = pool.TICK_SECONDS


@pytest.fixture(autouse=True)
def shorten_delays(monkeypatch, short_ticks):
    """Shorten ticks and delays, and disable the checks that a test does not enable itself."""
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 10**9)
    monkeypatch.setattr(sign_outs, "CHECK_DELAYS_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(sign_outs, "JOIN_DELAY_SECONDS", 10**9)
    monkeypatch.setattr(sign_outs, "SEARCH_INTERVAL_SECONDS", 10**9)


@pytest.fixture
def short_join_delay(monkeypatch):
    """Look for users without a stream soon after they have joined."""
    monkeypatch.setattr(sign_outs, "JOIN_DELAY_SECONDS", 0.2)


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


def record_checks(monkeypatch):
    """Return a list to which each check of sessions appends its arguments."""
    checks, check_sign_ins = [], sessions.check_sign_ins
    monkeypatch.setattr(
        sign_outs,
        "check_sign_ins",
        lambda sign_ins: checks.append(sign_ins) or check_sign_ins(sign_ins),
    )
    return checks


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


async def test_session_that_ends_after_the_guard_change(device, user, monkeypatch):
    """A second check finds a session that was deleted after the first: the sign-out signal precedes the deletion."""
    assert REAL_CHECK_DELAYS_SECONDS == (0.5, 2.0)
    check_sign_ins, results, one_by_one = sessions.check_sign_ins, [], threading.Lock()

    def check_before_deletion(sign_ins):
        with one_by_one:  # on a slow machine the second check begins before the first has ended
            are_valid = check_sign_ins(sign_ins)
            if not results:
                session_of(device.cookie).delete()
            results.append(are_valid)
            return are_valid

    monkeypatch.setattr(sign_outs, "check_sign_ins", check_before_deletion)
    await in_thread(user_logged_out.send, type(user), request=None, user=user)
    await device.assert_signed_out()
    assert results == [[True] * 3, [False] * 3]


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


def test_deactivated_users_are_found_in_chunks(make_user, transactional_db, django_assert_num_queries):
    """A query reads 1,000 users, and writes nothing. It is repeated within 5 s."""
    assert hub.ACTIVE_CHECK_TICKS * REAL_TICK_SECONDS < 5
    users = [make_user("first"), make_user("second")]
    deactivate_in_bulk(users[1])
    keys = [users[0].pk, *range(10**6, 10**6 + 1998), users[1].pk]
    with django_assert_num_queries(2) as queries:
        assert sessions.find_deactivated(keys) == [users[1].pk]
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)


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
async def test_deleted_user_without_stream_is_closed(connect, user, monkeypatch, rings, short_join_delay):
    """A deleted user without a stream, so without a guard, is found by a ring or by the position check."""
    socket = await connect(user)
    await socket.start()
    if rings:
        monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 10**9)
    await until(lambda: not current_hub()._session_checker._scheduled)
    with nullcontext() if rings else no_rings(monkeypatch):
        await in_thread(user.delete)
        assert (await socket.receive_bye())["code"] == 4401


async def test_deleted_user_whose_stream_is_created_anew_is_closed(
    connect, user, monkeypatch, short_join_delay
):
    """A notification after the deletion creates a stream. The hub, which knew of none, has seen neither."""
    monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 10**9)
    socket = await connect(user)
    await socket.start()
    await until(lambda: not current_hub()._session_checker._scheduled)
    with no_rings(monkeypatch):
        key = user.pk
        await in_thread(user.delete)
        await in_thread(Stream.objects.create, user_id=key)
        monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 1)
        assert (await socket.receive_bye())["code"] == 4401


async def test_first_notification_checks_no_sessions(connect, user, monkeypatch, short_join_delay):
    """The stream that it creates is no sign of a sign-out; a sign-out that follows is one."""
    checks, checker = record_checks(monkeypatch), current_hub()._session_checker
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await socket.start()
    await until(lambda: checks and not checker._scheduled)
    changed, check_changed_sessions = [], checker.check_changed_sessions
    monkeypatch.setattr(
        checker,
        "check_changed_sessions",
        lambda users: changed.extend(users) or check_changed_sessions(users),
    )
    await in_thread(notify, user, "The first")
    assert (await socket.receive("change"))["seq"] == 1
    assert current_hub().users[user.pk].guard == 0
    assert changed == checker._scheduled == []
    assert len(checks) == 1
    await in_thread(sign_out, cookie)
    assert (await socket.receive_bye())["code"] == 4401


async def test_users_without_stream_are_not_checked_repeatedly(connect, user, monkeypatch, short_join_delay):
    """The sessions of users without a stream are checked once after they connect, not at each position check."""
    monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 1)
    checks, searches, find_deleted = record_checks(monkeypatch), [], sessions.find_deleted
    monkeypatch.setattr(hub, "find_deleted", lambda users: searches.append(users) or find_deleted(users))
    socket = await connect(user)
    await socket.start()
    await until(lambda: checks and len(searches) > 20)
    assert len(checks) == 1
    await socket.receive_beat_only()


async def test_rings_without_a_stream_share_a_search(connect, user, monkeypatch):
    """While the search for deleted users takes long, further rings queue none behind it, where handshakes wait."""
    searches, gate = [], threading.Event()
    monkeypatch.setattr(hub, "find_deleted", lambda users: searches.append(users) or (gate.wait(30) and []))
    socket = await connect(user)
    await socket.start()
    job = await in_thread(rows.job, user)
    await socket.receive("jobs")
    await until(lambda: searches)
    for current in range(5):
        await in_thread(rows.change, job, progress_current=current)
        await socket.receive("jobs")
    assert searches == [[user.pk]]
    gate.set()


async def test_expired_session_is_closed(device, monkeypatch):
    """An expired session is found by the periodic check of all sessions."""
    await in_thread(session_of(device.cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await device.assert_connected()
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 2)
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
def only_search(monkeypatch):
    """Only the search finds ended sessions: rings, guards and the check of all sessions do not."""
    assert REAL_SEARCH_INTERVAL_SECONDS < 1
    monkeypatch.setattr(sign_outs, "SEARCH_INTERVAL_SECONDS", 0.05)
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


async def test_outage_of_the_session_store_closes_nothing(only_search, device, monkeypatch):
    """While the store cannot be asked no client is closed; the first search that succeeds closes what has ended."""
    monkeypatch.setattr(sign_outs, "RETRY_SECONDS", 0.05)
    real_search, failures = sessions.find_ended, [OperationalError("gone")] * 4

    def fail_four_times(keys):
        if failures:
            raise failures.pop()
        return real_search(keys)

    monkeypatch.setattr(sign_outs, "find_ended", fail_four_times)
    await until(lambda: not failures)
    await device.assert_connected()
    await in_thread(session_of(device.cookie).delete)
    await device.assert_signed_out()


async def test_search_pauses_in_proportion_to_its_cost(device, monkeypatch):
    """A search that takes 0.2 s of CPU time is repeated after 5 s, and none runs without clients."""
    delays = []
    checker = current_hub()._session_checker
    monkeypatch.setattr(sign_outs, "_find_ended_and_measure", lambda keys: (set(), 0.2))
    fake_loop = SimpleNamespace(call_later=lambda delay, *call: delays.append(delay), time=lambda: 0.0)
    monkeypatch.setattr(checker, "_loop", fake_loop)
    monkeypatch.setattr(sign_outs, "SEARCH_INTERVAL_SECONDS", REAL_SEARCH_INTERVAL_SECONDS)
    checker._search()
    await until(lambda: delays)
    assert delays == [5.0]
    monkeypatch.setattr(checker, "_find_subscribers", lambda users: [])
    checker._search()
    assert delays == [5.0] and not checker._is_searching


@contextmanager
def no_rings(monkeypatch):
    """Drop all rings, of this process and of others."""
    rung.disconnect(dispatch_uid="notifications.doorbell")
    monkeypatch.setattr(SqliteListener, "_read_rings", lambda self, db: None)
    try:
        yield
    finally:
        rung.connect(_handle_rung, dispatch_uid="notifications.doorbell")


async def test_sign_out_with_lost_ring(device, user, monkeypatch):
    """Without a ring, the position check finds the new guard."""
    with no_rings(monkeypatch):
        await in_thread(change_password, user)
        await device.assert_signed_out()


@pytest.mark.parametrize("sends_hello", [True, False])
@pytest.mark.parametrize("has_other_socket", [True, False])
async def test_session_that_ends_before_joining(
    connect, user, monkeypatch, has_other_socket, sends_hello, short_join_delay
):
    """A session that ends between its authentication and the hub's first read of the guard is checked again."""
    if has_other_socket:
        await (await connect(user)).start()
    cookie = await in_thread(sign_in, user)
    read_users = handshakes.read_users

    def read_then_sign_out(keys):
        users = read_users(keys)
        sign_out(cookie)
        return users

    monkeypatch.setattr(handshakes, "read_users", read_then_sign_out)
    socket = await connect(cookie=cookie)
    if sends_hello:
        socket.send_frame("hello", epoch=None, seq=None)
    # On a busy machine the session is read before the catch-up has begun.
    while (frame := await socket.receive())["op"] != "bye":
        assert sends_hello and frame["op"] in ("welcome", "sync"), frame
    assert frame["code"] == 4401


async def test_sign_out_before_hello(connect, user, monkeypatch, short_join_delay):
    """A session that ends before hello is closed, although the hub has not read the user's guard yet."""
    monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 10**9)
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


async def test_database_outage_closes_no_session(device, user, monkeypatch):
    """If the database fails, the check is retried and closes no session until it succeeds."""
    monkeypatch.setattr(sign_outs, "RETRY_SECONDS", 0.05)
    real_check, failures = sessions.check_sign_ins, [OperationalError("gone")] * 4

    def fail_four_times(sign_ins):
        if failures:
            raise failures.pop()
        return real_check(sign_ins)

    monkeypatch.setattr(sign_outs, "check_sign_ins", fail_four_times)
    await in_thread(sign_out, device.cookie)
    await device.assert_signed_out()
    assert not failures


async def test_users_of_project_middleware(connect, user, other_user, monkeypatch):
    """Clients of middleware without a session stay connected as long as their user is active."""
    checks = record_checks(monkeypatch)
    first, second = await connect(scope_user=user), await connect(scope_user=other_user)
    await first.start()
    await second.start()
    await in_thread(change_password, user)
    await until(lambda: sum(sign_in.user == user.pk for sign_ins in checks for sign_in in sign_ins) >= 2)
    await first.receive_beat_only()
    await in_thread(deactivate, user)
    assert (await first.receive_bye())["code"] == 4401
    await second.receive_beat_only()


async def test_sessions_are_read_with_two_queries(make_user, transactional_db, django_assert_num_queries):
    """Checking many sessions in Django's own table takes two queries."""
    users = [await in_thread(make_user, f"user {number}") for number in range(20)]
    cookies = [await in_thread(sign_in, user) for user in users]
    await in_thread(session_of(cookies[3]).delete)
    sign_ins = [
        sessions.SignIn(user=user.pk, session_key=cookie.partition("=")[2])
        for user, cookie in zip(users, cookies, strict=True)
    ]

    def check():
        with django_assert_num_queries(2):
            return sessions.check_sign_ins(sign_ins)

    assert await in_thread(check) == [number != 3 for number in range(20)]
