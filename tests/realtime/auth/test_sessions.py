"""Reading and checking sessions, with each session engine."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client

from notifications.realtime.auth.sessions import SignIn, check_sign_ins, read_user

ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")


@pytest.fixture(params=ENGINES)
def engine(request, settings, tmp_path):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    return request.param


@pytest.fixture
def ada(transactional_db):
    return get_user_model().objects.create_user("ada", password="ada")


def browser(user):
    client = Client()
    client.force_login(user)
    return client


def key(client):
    return client.cookies["sessionid"].value


def is_signed_in(user, session):
    """Check a session with check_sign_ins() and read_user(), which must agree. Returns the result."""
    (is_valid,) = check_sign_ins([SignIn(user=user.pk, session_key=session)])
    assert (read_user(session) == user.pk) == is_valid
    return is_valid


def test_session_engines(engine, ada):
    """A session is valid until its sign-out; a changed password ends all sessions of the user."""
    first, second = browser(ada), browser(ada)
    first_key, second_key = key(first), key(second)
    assert is_signed_in(ada, first_key) and is_signed_in(ada, second_key)
    if engine != "signed_cookies":  # the server cannot invalidate a signed cookie
        first.logout()
        assert not is_signed_in(ada, first_key)
    ada.set_password("new")
    ada.save()
    assert not is_signed_in(ada, second_key)


@pytest.mark.parametrize("session", ["", None, "none", "x" * 32, "\x00", "ä", "a" * 10_000])
def test_invalid_session_keys(engine, ada, session):
    """An invalid session key belongs to no user and raises no error."""
    assert read_user(session) is None
    assert check_sign_ins([SignIn(user=ada.pk, session_key=session or "none")]) == [False]


def test_session_of_another_user(engine, ada):
    """A session of another user is not valid for this one."""
    bob = get_user_model().objects.create_user("bob")
    assert check_sign_ins([SignIn(user=ada.pk, session_key=key(browser(bob)))]) == [False]


def test_results_are_in_order(engine, ada):
    """check_sign_ins() returns its results in the order of its arguments."""
    bob = get_user_model().objects.create_user("bob", is_active=False)
    clients = [browser(ada) for _ in range(3)]
    keys = [key(client) for client in clients]
    sign_ins = [SignIn(user=ada.pk, session_key=value) for value in (keys[0], "none", *keys[1:], keys[0])]
    sign_ins += [
        SignIn(user=ada.pk, session_key=None),
        SignIn(user=bob.pk, session_key=None),
        SignIn(user=0, session_key=None),
    ]
    assert check_sign_ins(sign_ins) == [True, False, True, True, True, True, False, False]
    assert check_sign_ins([]) == []


class UnreachableCache(LocMemCache):
    """A cache whose server cannot be reached."""

    def get(self, *args, **kwargs):
        raise ConnectionError("the cache is unreachable")

    __contains__ = has_key = get


@pytest.mark.parametrize("engine", ["cache", "cached_db"], indirect=True)
def test_cache_outage_is_an_error(engine, ada, settings):
    """An unreachable cache is an error or replaced by the database; Django would treat it as a missing session."""
    session = key(browser(ada))
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.UnreachableCache"}}
    if engine == "cached_db":
        assert is_signed_in(ada, session)
        return
    for read in (
        lambda: read_user(session),
        lambda: check_sign_ins([SignIn(user=ada.pk, session_key=session)]),
    ):
        with pytest.raises(ConnectionError):
            read()


class ForgettingBackend(ModelBackend):
    """A backend that finds no user any more."""

    def get_user(self, user_id):
        return None


class StrictBackend(ModelBackend):
    """A backend with its own rule for who can authenticate."""

    def user_can_authenticate(self, user):
        return super().user_can_authenticate(user) and user.first_name != "gone"


@pytest.mark.parametrize("backend", [ForgettingBackend, StrictBackend])
def test_custom_authentication_backends(ada, settings, backend):
    """read_user() and check_sign_ins() use the get_user() and user_can_authenticate() of a project's backend."""
    path = f"{__name__}.{backend.__name__}"
    settings.AUTHENTICATION_BACKENDS = [path]
    client = Client()
    client.force_login(ada, backend=path)
    assert is_signed_in(ada, key(client)) == (backend is StrictBackend)
    ada.first_name = "gone"
    ada.save()
    assert not is_signed_in(ada, key(client))
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert not is_signed_in(ada, key(client))


def test_invalid_session_data(ada):
    """A session whose user id is not a valid key belongs to no user."""
    for value in ("not a number", None, [1], {"a": 1}):
        session = SessionStore()
        session["_auth_user_id"] = value
        session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
        session.save()
        assert not is_signed_in(ada, session.session_key)
