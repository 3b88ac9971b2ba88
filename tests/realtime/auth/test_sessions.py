"""Who is signed in, whatever stores the sessions."""

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


def holds(user, session):
    """What both ways of reading say, which must be the same."""
    (held,) = check_sign_ins([SignIn(user=user.pk, session_key=session)])
    assert (read_user(session) == user.pk) == held
    return held


def test_session_engines(engine, ada):
    """Signed in until the sign-out; a changed password ends it everywhere."""
    first, second = browser(ada), browser(ada)
    one, two = key(first), key(second)
    assert holds(ada, one) and holds(ada, two)
    if engine != "signed_cookies":  # which only its browser can forget
        first.logout()
        assert not holds(ada, one)
    ada.set_password("new")
    ada.save()
    assert not holds(ada, two)


@pytest.mark.parametrize("session", ["", None, "none", "x" * 32, "\x00", "ä", "a" * 10_000])
def test_invalid_session_keys(engine, ada, session):
    """Nobody, and no error."""
    assert read_user(session) is None
    assert check_sign_ins([SignIn(user=ada.pk, session_key=session or "none")]) == [False]


def test_session_of_another_user(engine, ada):
    """It is theirs."""
    bob = get_user_model().objects.create_user("bob")
    assert check_sign_ins([SignIn(user=ada.pk, session_key=key(browser(bob)))]) == [False]


def test_results_are_in_order(engine, ada):
    """In the order in which they were asked about."""
    bob = get_user_model().objects.create_user("bob", is_active=False)
    clients = [browser(ada) for _ in range(3)]
    keys = [key(client) for client in clients]
    claims = [SignIn(user=ada.pk, session_key=one) for one in (keys[0], "none", *keys[1:], keys[0])]
    claims += [
        SignIn(user=ada.pk, session_key=None),
        SignIn(user=bob.pk, session_key=None),
        SignIn(user=0, session_key=None),
    ]
    assert check_sign_ins(claims) == [True, False, True, True, True, True, False, False]
    assert check_sign_ins([]) == []


class AwayCache(LocMemCache):
    """A cache that cannot be asked."""

    def get(self, *args, **kwargs):
        raise ConnectionError("the cache is away")

    __contains__ = has_key = get


@pytest.mark.parametrize("engine", ["cache", "cached_db"], indirect=True)
def test_cache_outage_is_an_error(engine, ada, settings):
    """Django takes it for a session that is not there; here it is an error, or the database answers."""
    session = key(browser(ada))
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.AwayCache"}}
    if engine == "cached_db":
        assert holds(ada, session)
        return
    for ask in (
        lambda: read_user(session),
        lambda: check_sign_ins([SignIn(user=ada.pk, session_key=session)]),
    ):
        with pytest.raises(ConnectionError):
            ask()


class Suspicious(ModelBackend):
    """A backend that knows nobody any more."""

    def get_user(self, user_id):
        return None


class Strict(ModelBackend):
    """A backend with a rule of its own for whom it lets in."""

    def user_can_authenticate(self, user):
        return super().user_can_authenticate(user) and user.first_name != "gone"


@pytest.mark.parametrize("backend", [Suspicious, Strict])
def test_custom_authentication_backends(ada, settings, backend):
    """Its own get_user or rule is asked, by one and by many."""
    path = f"{__name__}.{backend.__name__}"
    settings.AUTHENTICATION_BACKENDS = [path]
    client = Client()
    client.force_login(ada, backend=path)
    assert holds(ada, key(client)) == (backend is Strict)
    ada.first_name = "gone"
    ada.save()
    assert not holds(ada, key(client))
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert not holds(ada, key(client))


def test_invalid_session_data(ada):
    """Of another user model, or broken: nobody."""
    for value in ("not a number", None, [1], {"a": 1}):
        session = SessionStore()
        session["_auth_user_id"] = value
        session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
        session.save()
        assert not holds(ada, session.session_key)
