"""Who is no longer signed in is sent away, in whatever way they are connected, and is sent nothing after it."""

from contextlib import contextmanager, nullcontext
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from notifications.api import notify
from notifications.realtime import clock, hub
from notifications.realtime.auth import handshakes, session_checker, sessions
from notifications.realtime.doorbell import _handle_rung
from notifications.realtime.doorbell.sqlite import SqliteListener
from notifications.signals import rung
from tests.realtime.conftest import blocked, in_thread, sign_in, until

#: The law's own, before they are made short.
AFTER_GUARD = session_checker.GUARD_DELAYS_SECONDS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Seconds are short, and sessions are read for no other reason than a test's own."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 10**9)
    monkeypatch.setattr(session_checker, "GUARD_DELAYS_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(session_checker, "JOIN_DELAY_SECONDS", 10**9)


def session_of(cookie):
    return Session.objects.filter(pk=cookie.partition("=")[2])


class Browser:
    """A session with a socket, events and a long poll."""

    async def open(self, connect, ask, user):
        before = len(hub.current_hub().subscribers())
        self.cookie = await in_thread(sign_in, user)
        self.socket = await connect(cookie=self.cookie)
        await self.socket.start()
        self.events = await ask("events/", cookie=self.cookie)
        await self.events.start()
        self.poll = await ask(
            "sync/", cookie=self.cookie, headers={"Prefer": "wait=20", "If-None-Match": "*"}
        )
        await until(
            lambda: [one.is_synced for one in hub.current_hub().subscribers()] == [True] * (before + 3)
        )
        return self

    async def is_sent_away(self):
        """4401, and nothing after it."""
        bye = await self.socket.receive_bye()
        assert (bye["code"], bye["reason"], bye["reconnect"]) == (4401, "signed_out", False)
        event = await self.events.receive("bye")
        assert (event["data"]["code"], event["data"]["reconnect"]) == (4401, False)
        assert await self.events.receive() is None
        assert (await self.poll.wait_for_response()).status == 401

    async def stays(self):
        await self.socket.receive_beat_only()
        assert not self.events.task.done() and not self.poll.task.done()


@pytest.fixture
async def browser(connect, ask, user):
    """Of a user who was told something once: there is a stream."""
    await in_thread(notify, user, "note")
    return await Browser().open(connect, ask, user)


def count_readings(monkeypatch):
    """A list that grows with every reading of sessions, by its claims."""
    read, real = [], sessions.check_sign_ins
    monkeypatch.setattr(session_checker, "check_sign_ins", lambda claims: read.append(claims) or real(claims))
    return read


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


async def test_sign_out_closes_only_its_session(connect, ask, user, browser):
    """Another session of the same user stays."""
    other = await Browser().open(connect, ask, user)
    await in_thread(sign_out, browser.cookie)
    await browser.is_sent_away()
    await other.stays()


async def test_session_that_ends_after_the_guard_change(browser, user, monkeypatch):
    """The signal comes first, and the first reading may still find the session: there is a second one."""
    assert AFTER_GUARD == (0.5, 2.0)
    real, read = sessions.check_sign_ins, []

    def read_before_the_end(claims):
        found = real(claims)
        if not read:
            session_of(browser.cookie).delete()
        read.append(found)
        return found

    monkeypatch.setattr(session_checker, "check_sign_ins", read_before_the_end)
    await in_thread(user_logged_out.send, type(user), request=None, user=user)
    await browser.is_sent_away()
    assert read == [[True] * 3, [False] * 3]


@pytest.mark.parametrize("end", [change_password, deactivate])
async def test_password_change_and_deactivation_close_all_sessions(connect, ask, user, browser, end):
    """A changed password, and a user who is not active any more."""
    second = await Browser().open(connect, ask, user)
    await in_thread(end, user)
    await browser.is_sent_away()
    await second.is_sent_away()


async def test_deleted_user_is_closed(browser, user):
    """All their sessions end. Until then they are shown that nothing is left."""
    await in_thread(user.delete)
    frames = [await browser.socket.receive()]
    while frames[-1]["op"] != "bye":
        frames.append(await browser.socket.receive())
    assert all(frame["reset"] and not frame["items"] for frame in frames[:-1])
    assert frames[-1]["code"] == 4401
    await browser.socket.wait_until_closed()
    events = []
    while event := await browser.events.receive():
        events.append(event)
    assert (events[-1]["event"], events[-1]["data"]["code"]) == ("bye", 4401)
    assert (await browser.poll.wait_for_response()).status in (304, 401)


@pytest.mark.parametrize("rings", [True, False])
async def test_deleted_user_without_stream_is_closed(connect, user, monkeypatch, rings):
    """No guard moves, before or after it: sessions are read when it rings, or when the user is missed."""
    monkeypatch.setattr(session_checker, "JOIN_DELAY_SECONDS", 0.2)
    socket = await connect(user)
    await socket.start()
    if rings:
        monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 10**9)
    await until(lambda: not hub.current_hub()._session_checker._scheduled)
    with nullcontext() if rings else no_rings(monkeypatch):
        await in_thread(user.delete)
        assert (await socket.receive_bye())["code"] == 4401


async def test_users_without_stream_are_not_checked_repeatedly(connect, user, monkeypatch):
    """They have no stream and no guard. Their sessions are read when they have come, not with every check."""
    monkeypatch.setattr(session_checker, "JOIN_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 1)
    read, looked, real = count_readings(monkeypatch), [], sessions.find_deleted
    monkeypatch.setattr(session_checker, "find_deleted", lambda users: looked.append(users) or real(users))
    socket = await connect(user)
    await socket.start()
    await until(lambda: read and len(looked) > 20)
    assert len(read) == 1
    await socket.receive_beat_only()


async def test_expired_session_is_closed(browser, monkeypatch):
    """One that expires is found when all are read, every 60 s."""
    await in_thread(session_of(browser.cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await browser.stays()
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 2)
    await browser.is_sent_away()


@contextmanager
def no_rings(monkeypatch):
    """Whatever rings is lost, by every way."""
    rung.disconnect(dispatch_uid="notifications.doorbell")
    monkeypatch.setattr(SqliteListener, "_read_rings", lambda self, db: None)
    try:
        yield
    finally:
        rung.connect(_handle_rung, dispatch_uid="notifications.doorbell")


async def test_sign_out_with_lost_ring(browser, user, monkeypatch):
    """The position check sees the guard."""
    with no_rings(monkeypatch):
        await in_thread(change_password, user)
        await browser.is_sent_away()


@pytest.mark.parametrize("says_hello", [True, False])
@pytest.mark.parametrize("somebody_is_there", [True, False])
async def test_session_that_ends_before_joining(connect, user, monkeypatch, somebody_is_there, says_hello):
    """The guard had moved when the hub saw it first: the session is read once more."""
    monkeypatch.setattr(session_checker, "JOIN_DELAY_SECONDS", 0.2)
    if somebody_is_there:
        await (await connect(user)).start()
    cookie = await in_thread(sign_in, user)
    real = handshakes.read_users

    def signed_in_and_out(keys):
        who = real(keys)
        sign_out(cookie)
        return who

    monkeypatch.setattr(handshakes, "read_users", signed_in_and_out)
    socket = await connect(cookie=cookie)
    if says_hello:
        await socket.start()
    assert (await socket.receive_bye())["code"] == 4401


async def test_sign_out_before_hello(connect, user, monkeypatch):
    """Nothing was read for the user yet, so no guard is known that could have moved."""
    monkeypatch.setattr(session_checker, "JOIN_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(hub, "POSITION_CHECK_TICKS", 10**9)
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await in_thread(sign_out, cookie)
    assert (await socket.receive_bye())["code"] == 4401


async def test_pending_frames_are_dropped_at_sign_out(connect, ask, user):
    """What the server had not taken yet is dropped."""
    cookie = await in_thread(sign_in, user)
    socket, events = await connect(cookie=cookie), await ask("events/", cookie=cookie)
    await socket.start()
    await events.start()
    async with blocked(socket), blocked(events):
        for number in range(5):
            await in_thread(notify, user, f"secret {number}")
            await until(
                lambda seq=number + 1: all(one.position == seq for one in hub.current_hub().subscribers())
            )
        await in_thread(sign_out, cookie)
        await until(lambda: not hub.current_hub().subscribers())
    frames = [await socket.receive()]
    while frames[-1]["op"] != "bye":
        frames.append(await socket.receive())
    assert len(frames) <= 2  # the one that the server was taking, and the bye
    names = []
    while event := await events.receive():
        names.append(event["event"])
    assert names[-1] == "bye" and len(names) <= 2


async def test_database_outage_closes_no_session(browser, user, monkeypatch):
    """It is asked again until it answers, and then the word counts."""
    monkeypatch.setattr(session_checker, "RETRY_SECONDS", 0.05)
    real, failures = sessions.check_sign_ins, [OperationalError("gone")] * 4

    def check_sign_ins(claims):
        if failures:
            raise failures.pop()
        return real(claims)

    monkeypatch.setattr(session_checker, "check_sign_ins", check_sign_ins)
    await in_thread(sign_out, browser.cookie)
    await browser.is_sent_away()
    assert not failures


async def test_users_of_project_middleware(connect, user, other, monkeypatch):
    """Without a session the user counts: they stay while they are active."""
    read = count_readings(monkeypatch)
    first, second = await connect(scope_user=user), await connect(scope_user=other)
    await first.start()
    await second.start()
    await in_thread(change_password, user)
    await until(lambda: sum(claim.user == user.pk for claims in read for claim in claims) >= 2)
    await first.receive_beat_only()
    await in_thread(deactivate, user)
    assert (await first.receive_bye())["code"] == 4401
    await second.receive_beat_only()


async def test_sessions_are_read_with_two_queries(connect, user, django_assert_num_queries):
    """Two for a hundred, where sessions are in Django's own table."""
    people = [await in_thread(get_user_model().objects.create_user, f"user {number}") for number in range(20)]
    cookies = [await in_thread(sign_in, person) for person in people]
    await in_thread(session_of(cookies[3]).delete)
    claims = [
        sessions.SignIn(user=person.pk, session_key=cookie.partition("=")[2])
        for person, cookie in zip(people, cookies, strict=True)
    ]

    def read():
        with django_assert_num_queries(2):
            return sessions.check_sign_ins(claims)

    assert await in_thread(read) == [number != 3 for number in range(20)]
