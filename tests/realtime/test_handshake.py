"""Who is let in: origins, subprotocols, sessions, and how many."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.db.models import F
from django.utils import timezone

from notifications.models import Stream
from notifications.realtime import clock, delivery, hub
from notifications.realtime.auth import page_user, session_checker
from notifications.realtime.transports import websocket
from tests.realtime.conftest import in_thread, sign_in


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "testserver",
        "http://",
        "//testserver",
        "http://testserver/",
        "http://testserver/path",
        "http://user@testserver",
        "http://testserver:99999",
        "http://[testserver",
        "http://testserver, http://testserver",
        "http://testserver.evil.example",
        "http://evil.example",
        "http://testserver:8000",
        "https://testserver",
        "http://testsérver",
    ],
)
async def test_foreign_origins_are_refused(connect, user, origin):
    """Missing, null, malformed or foreign, another port or another scheme: refused before the handshake."""
    assert not (await connect(user, origin=origin)).accepted


async def test_repeated_origin_is_refused(connect, user):
    """Two that are right are one too many."""
    assert not (await connect(user, headers=[(b"origin", b"http://testserver")])).accepted


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://testserver", b"testserver", "ws"),
        ("HTTP://TestServer", b"testserver", "ws"),
        ("http://testserver:80", b"testserver", "ws"),
        ("http://testserver", b"testserver:80", "ws"),
        ("https://testserver", b"testserver", "wss"),
        ("https://testserver", b"testserver:443", "wss"),
        ("http://testserver:8000", b"testserver:8000", "ws"),
        ("http://[::1]:8000", b"[::1]:8000", "ws"),
    ],
)
async def test_own_origin_is_accepted(connect, user, settings, origin, host, scheme):
    """Scheme, host and port as the request has them; the scheme's port may be left out."""
    settings.ALLOWED_HOSTS = ["testserver", "[::1]"]
    socket = await connect(user, origin=origin, host=host, scheme=scheme)
    assert socket.accepted
    await socket.start()


async def test_disallowed_host_is_refused(connect, user):
    """An origin that equals a Host nobody allowed."""
    assert not (await connect(user, origin="http://evil.example", host=b"evil.example")).accepted


async def test_listed_origins_are_accepted(connect, user, settings):
    """NOTIFICATIONS["ORIGINS"] names others, with their ports."""
    settings.NOTIFICATIONS = {"ORIGINS": ["https://app.example", "capacitor://localhost"]}
    assert (await connect(user, origin="https://app.example")).accepted
    assert (await connect(user, origin="https://app.example:443")).accepted
    assert (await connect(user, origin="capacitor://localhost")).accepted
    assert not (await connect(user, origin="https://app.example:444")).accepted
    assert not (await connect(user, origin="null")).accepted


async def test_scheme_is_that_of_the_proxy(connect, user, settings):
    """SECURE_PROXY_SSL_HEADER is obeyed."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    forwarded = [(b"x-forwarded-proto", b"https")]
    assert (await connect(user, origin="https://testserver", headers=forwarded)).accepted
    assert not (await connect(user, origin="http://testserver", headers=forwarded)).accepted


@pytest.mark.parametrize(
    ("offered", "accepted", "selected"),
    [
        ([], True, None),
        (["notifications.v1"], True, "notifications.v1"),
        (["other", "notifications.v1"], True, "notifications.v1"),
        (["other"], False, None),
        (["notifications.v2"], False, None),
    ],
)
async def test_subprotocol_is_selected_when_offered(connect, user, offered, accepted, selected):
    """None offered is accepted, only others are refused."""
    socket = await connect(user, subprotocols=offered)
    assert (socket.accepted, socket.subprotocol) == (accepted, selected)


async def refused_as_signed_out(socket):
    assert socket.accepted
    bye = await socket.receive_bye()
    assert bye == {
        "op": "bye",
        "code": 4401,
        "reason": "signed_out",
        "detail": bye["detail"],
        "reconnect": False,
        "after_ms": 0,
    }


async def test_anonymous_client_is_signed_out(connect, transactional_db):
    """Accepted, then bye 4401, without a hello."""
    await refused_as_signed_out(await connect())


def session_of(cookie):
    return Session.objects.filter(pk=cookie.partition("=")[2])


async def test_ended_sessions_are_signed_out(connect, user):
    """Signed out, expired, the password changed, not active, gone."""
    cookie = await in_thread(sign_in, user)
    await in_thread(session_of(cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await refused_as_signed_out(await connect(cookie=cookie))
    cookie = await in_thread(sign_in, user)
    await in_thread(session_of(cookie).delete)
    await refused_as_signed_out(await connect(cookie=cookie))
    cookie = await in_thread(sign_in, user)
    await in_thread(type(user).objects.update, is_active=False)
    await refused_as_signed_out(await connect(cookie=cookie))
    await in_thread(type(user).objects.update, is_active=True)
    assert (await connect(cookie=cookie)).accepted

    def change_password():
        user.set_password("new")
        user.save()

    await in_thread(change_password)
    await refused_as_signed_out(await connect(cookie=cookie))
    assert await in_thread(session_of(cookie).exists)


async def test_inactive_user_is_signed_out_with_any_backend(connect, user, settings):
    """Some backends of Django let them sign in."""
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    await in_thread(type(user).objects.update, is_active=False)
    await refused_as_signed_out(await connect(user))


async def test_session_signed_with_fallback_key_is_valid_and_unchanged(connect, user, settings):
    """The browser could not be told a new name of its session here."""
    cookie = await in_thread(sign_in, user)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new key"
    socket = await connect(cookie=cookie)
    assert socket.accepted
    await socket.start()
    assert await in_thread(session_of(cookie).exists)


async def test_page_of_another_user_is_signed_out(connect, user, other):
    """One that was open before they signed in: its socket would bring it what is theirs."""

    def asking(whose):
        return {"query_string": f"viewer={page_user.make_token(whose.pk)}".encode()}

    for who in ({"user": user}, {"scope_user": user}):
        await refused_as_signed_out(await connect(**who, **asking(other)))
        await (await connect(**who, **asking(user))).start()


async def test_user_of_project_middleware(connect, user):
    """A user in the scope is taken as it is, without a session; an anonymous one is nobody."""
    socket = await connect(user=None, scope_user=user)
    assert socket.accepted
    await socket.start()
    await refused_as_signed_out(await connect(scope_user=AnonymousUser()))


async def test_session_of_the_middlewares_user_is_used(connect, user, other):
    """Then its end is the end of the socket; somebody else's says nothing."""
    theirs, mine = [SessionStore((await in_thread(sign_in, who)).partition("=")[2]) for who in (other, user)]
    by_token = await connect(scope_user=user, session=theirs)
    by_session = await connect(scope_user=user, session=mine)
    await by_token.start()
    await by_session.start()
    assert [one.session_key for one in hub.current_hub().subscribers()] == [None, mine.session_key]


async def test_session_that_ends_after_the_middleware(connect, user):
    """By Channels' own middleware: the user is still in the scope, and nobody is signed in any more."""
    cookie = await in_thread(sign_in, user)
    session = SessionStore(cookie.partition("=")[2])
    assert await in_thread(session.get, SESSION_KEY) == str(user.pk)
    await in_thread(session_of(cookie).delete)
    await refused_as_signed_out(await connect(scope_user=user, session=session))


async def test_failed_authentication_is_not_a_sign_out(connect, user, monkeypatch):
    """While the database is away: 4000, and come back within 5 s; 4401 would sign people out."""
    cookie = await in_thread(sign_in, user)

    def away(keys):
        raise OperationalError("the database is away")

    monkeypatch.setattr("notifications.realtime.auth.handshakes.read_users", away)
    bye = await (await connect(cookie=cookie)).receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4000, "going_away", True)
    assert 0 < bye["after_ms"] <= 5000


async def test_sockets_per_user_are_limited(connect, user, other, settings):
    """The newest is closed; others' do not count, and one that ended makes room."""
    settings.NOTIFICATIONS = {"SOCKETS_PER_USER": 2}
    first, second = await connect(user), await connect(user)
    await connect(other)
    bye = await (await connect(user)).receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4429, "too_many_sockets", True)
    assert bye["after_ms"] >= 30_000
    await first.start()
    second.disconnect()
    await second.wait_until_closed()
    await (await connect(user)).start()


async def test_hello_timeout(connect, user, monkeypatch):
    """no_hello, and nothing is read for who says nothing."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(websocket, "HELLO_TIMEOUT_SECONDS", 0.1)
    bye = await (await connect(user)).receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4408, "no_hello", True)


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ('{"op":"ping"}', 4400, "not_hello"),
        ("no json", 4400, "bad_json"),
        ('{"op":"hello","seq":-1}', 4400, "bad_seq"),
        ('"' + "a" * 5000 + '"', 4409, "too_big"),
    ],
)
async def test_invalid_first_frame_is_refused(connect, user, text, code, reason):
    """No reconnect: a correct client never sees it."""
    socket = await connect(user)
    socket.send_text(text)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"], bye["after_ms"]) == (code, reason, False, 0)


async def test_second_hello_is_refused(connect, user):
    """Once is enough: bad_op."""
    socket = await connect(user)
    await socket.start()
    socket.send_frame("hello")
    assert (await socket.receive_bye())["reason"] == "bad_op"


async def test_nothing_follows_a_bye(connect, user):
    """Neither answers to what came behind, nor changes."""
    socket = await connect(user)
    await socket.start()
    socket.send_bytes(b"{}")
    socket.send_frame("sync", seq=0)
    socket.send_frame("ping")
    assert (await socket.receive_bye())["reason"] == "bad_json"


async def test_disconnected_client_leaves_the_hub(connect, user):
    """Nothing of the connection is kept."""
    socket = await connect(user)
    await socket.start()
    socket.disconnect()
    await socket.wait_until_closed()
    assert hub.current_hub().subscribers() == []


async def test_guard_change_closes_sockets_of_ended_sessions(connect, user, monkeypatch):
    """Only those whose session is no longer valid."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(session_checker, "GUARD_DELAYS_SECONDS", (0.05,))
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 10**9)
    stays, goes = await in_thread(sign_in, user), await in_thread(sign_in, user)
    staying, going = await connect(cookie=stays), await connect(cookie=goes)
    await staying.start()
    await going.start()

    def sign_out():
        session_of(goes).delete()
        Stream.objects.get_or_create(pk=user.pk)
        Stream.objects.filter(pk=user.pk).update(guard=F("guard") + 1)

    await in_thread(sign_out)
    bye = await going.receive_bye()
    assert (bye["code"], bye["reason"]) == (4401, "signed_out")
    assert (await staying.receive_beat_only())["seq"] == 0


async def test_all_sessions_are_checked_periodically(connect, user, monkeypatch):
    """A session that expires ends the socket, though nobody rang."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 2)
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await socket.start()
    await in_thread(session_of(cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    assert (await socket.receive_bye())["code"] == 4401


async def test_server_shutdown_sends_reconnect_delay(connect, user):
    """4000 with some jitter, at most 5 s; the same where the server cancels the application."""
    closed, cancelled = await connect(user), await connect(user)
    await closed.start()
    await cancelled.start()
    cancelled.task.cancel()
    frames = [await cancelled.receive("bye")]
    await hub.close_current_hub()
    frames.append(await closed.receive_bye())
    for bye in frames:
        assert (bye["code"], bye["reason"], bye["reconnect"]) == (4000, "going_away", True)
        assert 0 < bye["after_ms"] <= 5000


async def test_handshakes_do_not_wait_for_numbering(connect, user, monkeypatch):
    """Numbering that waits for a lock, of leftovers and before a snapshot, takes no thread of those who are let in."""
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.01)
    held, waiting = threading.Event(), threading.Semaphore(0)

    def wait_for_a_lock(*args):
        waiting.release()
        held.wait(20)

    monkeypatch.setattr(hub.streams, "number_pending", wait_for_a_lock)
    monkeypatch.setattr(delivery, "number_if_needed", wait_for_a_lock)
    try:
        first = await connect(user)
        await asyncio.to_thread(waiting.acquire, timeout=10)
        first.send_frame("hello", epoch=None, seq=None)
        second = await connect(user)
        second.send_frame("hello", epoch=None, seq=None)
        assert (await second.receive())["op"] == "welcome"
        third = await connect(user)
        third.send_frame("hello", epoch=None, seq=None)
        assert (await third.receive())["op"] == "welcome"
    finally:
        held.set()
