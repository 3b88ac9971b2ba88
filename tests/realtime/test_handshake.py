"""WebSocket handshakes: origins, subprotocols, authentication, limits and close codes."""

import asyncio
import re
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
from notifications.realtime import hub
from notifications.realtime.hub import current_hub
from tests.realtime.conftest import in_thread, sign_in

pytestmark = pytest.mark.nightly_on_postgres


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
    """A missing, null, malformed or foreign origin, or one with another port or scheme, is refused."""
    assert not (await connect(user, origin=origin)).accepted


async def test_repeated_origin_is_refused(connect, user):
    """A handshake with two Origin headers is refused, although both are valid."""
    assert not (await connect(user, headers=[(b"origin", b"http://testserver")])).accepted


async def test_refused_origin_is_logged(connect, user, caplog, forgotten_log):
    """With the address that the server takes for its own, and both remedies; a flood of them once a minute."""
    for _ in range(20):
        await connect(user, origin="https://app.example", host=b"127.0.0.1:8000")
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("Refused a WebSocket because of its Origin ")
    assert "'https://app.example'" in text
    assert "'http://127.0.0.1:8000'" in text
    assert "NOTIFICATIONS['ORIGINS']" in text
    assert "SECURE_PROXY_SSL_HEADER" in text
    forgotten_log.clear()
    await connect(user, origin="http://evil\n.example" + "x" * 9000)
    text = caplog.records[1].getMessage()
    assert "(20 times" in text
    assert len(text) < 600
    assert "\n" not in text
    assert len(caplog.records) == 2


async def test_missing_origin_is_logged(connect, user, caplog, forgotten_log):
    await connect(user, origin=None)
    assert "no Origin" in caplog.text
    assert (await connect(user, subprotocols=["other"])).accepted is False
    assert len(caplog.records) == 1


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
    """An origin with the scheme, host and port of the request is accepted; the default port may be left out."""
    settings.ALLOWED_HOSTS = ["testserver", "[::1]"]
    socket = await connect(user, origin=origin, host=host, scheme=scheme)
    assert socket.accepted
    await socket.start()


async def test_disallowed_host_is_refused(connect, user):
    """An origin that equals the Host header is refused if ALLOWED_HOSTS does not contain it."""
    assert not (await connect(user, origin="http://evil.example", host=b"evil.example")).accepted


async def test_listed_origins_are_accepted(connect, user, settings):
    """Origins listed in NOTIFICATIONS["ORIGINS"] are accepted, with the listed port only."""
    settings.NOTIFICATIONS = {"ORIGINS": ["https://app.example", "capacitor://localhost"]}
    assert (await connect(user, origin="https://app.example")).accepted
    assert (await connect(user, origin="https://app.example:443")).accepted
    assert (await connect(user, origin="capacitor://localhost")).accepted
    assert not (await connect(user, origin="https://app.example:444")).accepted
    assert not (await connect(user, origin="null")).accepted


async def test_scheme_is_that_of_the_proxy(connect, user, settings):
    """The scheme of the request is the one that SECURE_PROXY_SSL_HEADER gives."""
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
    """notifications.v1 is selected if offered; offering none is accepted, offering only others is refused."""
    socket = await connect(user, subprotocols=offered)
    assert (socket.accepted, socket.subprotocol) == (accepted, selected)


async def assert_signed_out(socket):
    """Assert that the handshake is accepted and followed by bye 4401."""
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
    """An anonymous client is accepted and gets bye 4401 without sending hello."""
    await assert_signed_out(await connect())


def session_of(cookie):
    return Session.objects.filter(pk=cookie.partition("=")[2])


async def test_ended_sessions_are_signed_out(connect, user):
    """Sessions that have expired, are deleted, or whose user is inactive or has a new password are signed out."""
    cookie = await in_thread(sign_in, user)
    await in_thread(session_of(cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    await assert_signed_out(await connect(cookie=cookie))
    cookie = await in_thread(sign_in, user)
    await in_thread(session_of(cookie).delete)
    await assert_signed_out(await connect(cookie=cookie))
    cookie = await in_thread(sign_in, user)
    await in_thread(type(user).objects.update, is_active=False)
    await assert_signed_out(await connect(cookie=cookie))
    await in_thread(type(user).objects.update, is_active=True)
    assert (await connect(cookie=cookie)).accepted

    def change_password():
        user.set_password("new")
        user.save()

    await in_thread(change_password)
    await assert_signed_out(await connect(cookie=cookie))
    assert await in_thread(session_of(cookie).exists)


async def test_inactive_user_is_signed_out_with_any_backend(connect, user, settings):
    """An inactive user is signed out, even with a backend of Django that lets inactive users sign in."""
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    await in_thread(type(user).objects.update, is_active=False)
    await assert_signed_out(await connect(user))


async def test_session_signed_with_fallback_key_is_valid_and_unchanged(connect, user, settings):
    """The session key is not cycled, because a WebSocket cannot set the new cookie."""
    cookie = await in_thread(sign_in, user)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new key"
    socket = await connect(cookie=cookie)
    assert socket.accepted
    await socket.start()
    assert await in_thread(session_of(cookie).exists)


async def test_page_of_another_user_is_signed_out(connect, user, other_user, client_of):
    """A page loaded as another user is signed out: its socket would show it the current user's notifications."""

    def page_of(viewer):
        page = client_of(viewer).get("/notifications/").content.decode()
        return {"query_string": re.search(r'data-socket="[^"]*\?(viewer=[^"&]+)', page)[1].encode()}

    own, others = [await in_thread(page_of, viewer) for viewer in (user, other_user)]
    for options in ({"user": user}, {"scope_user": user}):
        await assert_signed_out(await connect(**options, **others))
        await (await connect(**options, **own)).start()


async def test_user_of_project_middleware(connect, user):
    """A user that middleware put into the scope needs no session; an anonymous one is signed out."""
    socket = await connect(user=None, scope_user=user)
    assert socket.accepted
    await socket.start()
    await assert_signed_out(await connect(scope_user=AnonymousUser()))


async def test_session_of_the_middlewares_user_is_used(connect, user, other_user):
    """If the session in the scope is that of the user in the scope, its end closes the socket; another's is ignored."""
    other_session, own_session = [
        SessionStore((await in_thread(sign_in, owner)).partition("=")[2]) for owner in (other_user, user)
    ]
    by_token = await connect(scope_user=user, session=other_session)
    by_session = await connect(scope_user=user, session=own_session)
    await by_token.start()
    await by_session.start()
    session_keys = [subscriber.session_key for subscriber in current_hub().subscribers()]
    assert session_keys == [None, own_session.session_key]


async def test_session_that_ends_after_the_middleware(connect, user):
    """A session that ends after Channels' middleware read it is signed out, although its user is in the scope."""
    cookie = await in_thread(sign_in, user)
    session = SessionStore(cookie.partition("=")[2])
    assert await in_thread(session.get, SESSION_KEY) == str(user.pk)
    await in_thread(session_of(cookie).delete)
    await assert_signed_out(await connect(scope_user=user, session=session))


async def test_failed_authentication_is_not_a_sign_out(wrap_statements, connect, user, caplog, forgotten_log):
    """An unreachable database closes with 4000 and a reconnect within 5 s; 4401 would sign the user out.

    The log says so once a minute, however many come back.
    """
    cookie = await in_thread(sign_in, user)

    def fail(execute, sql, *args):
        if "django_session" in sql:
            raise OperationalError("the database is unreachable")
        return execute(sql, *args)

    wrap_statements(fail)
    for _ in range(2):
        bye = await (await connect(cookie=cookie)).receive_bye()
        assert (bye["code"], bye["reason"], bye["reconnect"]) == (4000, "going_away", True)
        assert 0 < bye["after_ms"] <= 5000
    assert caplog.text.count("Could not authenticate a WebSocket: the database is unreachable") == 1


async def test_sockets_per_user_are_limited(connect, user, other_user, settings):
    """The newest socket above the limit is closed; other users' and ended sockets do not count."""
    settings.NOTIFICATIONS = {"SOCKETS_PER_USER": 2}
    first, second = await connect(user), await connect(user)
    await connect(other_user)
    bye = await (await connect(user)).receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (4429, "too_many_sockets", True)
    assert bye["after_ms"] >= 30_000
    await first.start()
    second.disconnect()
    await second.wait_until_closed()
    await (await connect(user)).start()


async def test_hello_timeout(connect, user, set_bounds, short_ticks):
    """A client that sends no hello in time gets bye no_hello."""
    set_bounds(clients=0.1)
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
    """An invalid first frame gets a bye without reconnect: it is a defect of the client."""
    socket = await connect(user)
    socket.send_text(text)
    bye = await socket.receive_bye()
    assert (bye["code"], bye["reason"], bye["reconnect"], bye["after_ms"]) == (code, reason, False, 0)


async def test_second_hello_is_refused(connect, user):
    """A second hello gets bye bad_op."""
    socket = await connect(user)
    await socket.start()
    socket.send_frame("hello")
    assert (await socket.receive_bye())["reason"] == "bad_op"


async def test_nothing_follows_a_bye(connect, user):
    """After a bye neither responses to later frames nor changes are sent."""
    socket = await connect(user)
    await socket.start()
    socket.send_bytes(b"{}")
    socket.send_frame("sync", seq=0)
    socket.send_frame("ping")
    assert (await socket.receive_bye())["reason"] == "bad_json"


async def test_disconnected_client_leaves_the_hub(connect, user):
    """When a client disconnects, the hub forgets its subscriber."""
    socket = await connect(user)
    await socket.start()
    socket.disconnect()
    await socket.wait_until_closed()
    assert current_hub().subscribers() == []


async def test_guard_change_closes_sockets_of_ended_sessions(connect, user, set_ticks, short_ticks):
    """A new guard closes the user's sockets whose session has ended, and no others."""
    set_ticks(SESSION_CHECK=10**9)
    valid_cookie, ended_cookie = await in_thread(sign_in, user), await in_thread(sign_in, user)
    valid_socket, ended_socket = await connect(cookie=valid_cookie), await connect(cookie=ended_cookie)
    await valid_socket.start()
    await ended_socket.start()

    def sign_out():
        session_of(ended_cookie).delete()
        Stream.objects.get_or_create(pk=user.pk)
        Stream.objects.filter(pk=user.pk).update(guard=F("guard") + 1)

    await in_thread(sign_out)
    bye = await ended_socket.receive_bye()
    assert (bye["code"], bye["reason"]) == (4401, "signed_out")
    assert (await valid_socket.receive_beat_only())["seq"] == 0


async def test_all_sessions_are_checked_periodically(connect, user, set_ticks, short_ticks):
    """An expired session closes the socket at the next periodic check, without a ring."""
    set_ticks(SESSION_CHECK=2)
    cookie = await in_thread(sign_in, user)
    socket = await connect(cookie=cookie)
    await socket.start()
    await in_thread(session_of(cookie).update, expire_date=timezone.now() - timedelta(seconds=1))
    assert (await socket.receive_bye())["code"] == 4401


async def test_server_shutdown_sends_reconnect_delay(connect, user):
    """At shutdown clients get 4000 and a delay of at most 5 s, also if the server cancels the application."""
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


async def test_handshakes_do_not_wait_for_numbering(wrap_statements, connect, user, set_ticks, short_ticks):
    """Handshakes are answered while periodic numbering and the numbering before a snapshot wait for locks."""
    set_ticks(POSITION_CHECK=10**9)
    lock_released, waiting = threading.Event(), threading.Semaphore(0)

    def wait_for_lock(execute, sql, *args):
        if "seq IS NULL" in sql:
            waiting.release()
            lock_released.wait(60)  # longer than a frame is waited for
        return execute(sql, *args)

    cookies = [await in_thread(sign_in, user) for _ in range(3)]
    wrap_statements(wait_for_lock)
    try:
        first = await connect(cookie=cookies[0])
        assert await asyncio.to_thread(waiting.acquire, timeout=10)
        first.send_frame("hello", epoch=None, seq=None)
        for cookie in cookies[1:]:
            socket = await connect(cookie=cookie)
            socket.send_frame("hello", epoch=None, seq=None)
            assert (await socket.receive())["op"] == "welcome"
    finally:
        lock_released.set()
