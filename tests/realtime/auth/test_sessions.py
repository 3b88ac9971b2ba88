"""Reading and checking sessions, with each session engine."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client

from notifications.realtime.auth import sessions
from notifications.realtime.auth.sessions import (
    SignIn,
    check_sign_ins,
    find_deactivated,
    find_ended,
    read_user,
)

ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")


@pytest.fixture(params=ENGINES)
def engine(request, settings, tmp_path):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    return request.param


pytestmark = pytest.mark.django_db(transaction=True)


def key(client):
    return client.cookies["sessionid"].value


def is_signed_in(user, session):
    """Check a session with check_sign_ins() and read_user(), which must agree. Returns the result."""
    (is_valid,) = check_sign_ins([SignIn(user=user.pk, session_key=session)])
    assert (read_user(session) == user.pk) == is_valid
    return is_valid


def test_session_engines(engine, user, client_of):
    """A session is valid until its sign-out; a changed password ends all sessions of the user."""
    first, second = client_of(user), client_of(user)
    first_key, second_key = key(first), key(second)
    assert is_signed_in(user, first_key) and is_signed_in(user, second_key)
    if engine != "signed_cookies":  # the server cannot invalidate a signed cookie
        first.logout()
        assert not is_signed_in(user, first_key)
    user.set_password("new")
    user.save()
    assert not is_signed_in(user, second_key)


@pytest.mark.parametrize("session", ["", None, "none", "x" * 32, "\x00", "ä", "a" * 10_000])
def test_invalid_session_keys(engine, user, session):
    """An invalid session key belongs to no user and raises no error."""
    assert read_user(session) is None
    assert check_sign_ins([SignIn(user=user.pk, session_key=session or "none")]) == [False]


def test_session_of_another_user(engine, user, other_user, client_of):
    """A session of another user is not valid for this one."""
    assert check_sign_ins([SignIn(user=user.pk, session_key=key(client_of(other_user)))]) == [False]


def test_results_are_in_order(engine, user, make_user, client_of):
    """check_sign_ins() returns its results in the order of its arguments."""
    inactive = make_user("bob", is_active=False)
    clients = [client_of(user) for _ in range(3)]
    keys = [key(client) for client in clients]
    sign_ins = [SignIn(user=user.pk, session_key=value) for value in (keys[0], "none", *keys[1:], keys[0])]
    sign_ins += [
        SignIn(user=user.pk, session_key=None),
        SignIn(user=inactive.pk, session_key=None),
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
def test_cache_outage_is_an_error(engine, user, client_of, settings):
    """An unreachable cache is an error or replaced by the database; Django would treat it as a missing session."""
    session = key(client_of(user))
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.UnreachableCache"}}
    if engine == "cached_db":
        assert is_signed_in(user, session)
        return
    for read in (
        lambda: read_user(session),
        lambda: check_sign_ins([SignIn(user=user.pk, session_key=session)]),
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
def test_custom_authentication_backends(user, settings, backend):
    """read_user() and check_sign_ins() use the get_user() and user_can_authenticate() of a project's backend."""
    path = f"{__name__}.{backend.__name__}"
    settings.AUTHENTICATION_BACKENDS = [path]
    client = Client()
    client.force_login(user, backend=path)
    assert is_signed_in(user, key(client)) == (backend is StrictBackend)
    user.first_name = "gone"
    user.save()
    assert not is_signed_in(user, key(client))
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert not is_signed_in(user, key(client))


def test_invalid_session_data(user):
    """A session whose user id is not a valid key belongs to no user."""
    for value in ("not a number", None, [1], {"a": 1}):
        session = SessionStore()
        session["_auth_user_id"] = value
        session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
        session.save()
        assert not is_signed_in(user, session.session_key)


@pytest.mark.nightly_names("*[cached_db]")
def test_search_for_ended_sessions(engine, user, client_of, django_assert_max_num_queries, monkeypatch):
    """Deleted and expired ones; in Django's table by one query, however many clients are connected."""
    if engine == "signed_cookies":
        pytest.skip("A signed cookie ends only by its age.")
    live, deleted, expired = (client_of(user) for _ in range(3))
    keys = [key(each) for each in (live, deleted, expired)]
    deleted.session.delete()
    session = expired.session
    session.set_expiry(-1)
    session.save()
    unknown = [f"{number:032}" for number in range(2_000)]
    with django_assert_max_num_queries(1 if engine == "db" else 10_000):
        assert find_ended([*keys, *unknown]) == {*keys[1:], *unknown}
    # Such as MySQL, where sessions are in a database of their own.
    monkeypatch.setattr(sessions, "find_dialect", lambda db: None)
    with django_assert_max_num_queries(5 if engine == "db" else 10_000):
        assert find_ended([*keys, *unknown]) == {*keys[1:], *unknown}
    assert find_ended(keys[:1]) == set()


def test_deactivated_users_are_found_in_chunks(make_user, django_assert_num_queries):
    """A query reads 1,000 users, and writes nothing."""
    users = [make_user("first"), make_user("second")]
    get_user_model().objects.filter(pk=users[1].pk).update(is_active=False)
    keys = [users[0].pk, *range(10**6, 10**6 + 1998), users[1].pk]
    with django_assert_num_queries(2) as queries:
        assert find_deactivated(keys) == [users[1].pk]
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)


def test_sign_ins_are_read_with_two_queries(make_user, client_of, django_assert_num_queries):
    """Checking many sessions in Django's own table takes two queries."""
    users = [make_user(f"user {number}") for number in range(20)]
    clients = [client_of(user) for user in users]
    clients[3].session.delete()
    sign_ins = [
        SignIn(user=user.pk, session_key=key(client)) for user, client in zip(users, clients, strict=True)
    ]
    with django_assert_num_queries(2):
        are_valid = check_sign_ins(sign_ins)
    assert are_valid == [number != 3 for number in range(20)]
