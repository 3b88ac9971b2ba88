"""Event streams and outputs without a session end when their authenticator refuses their client."""

import asyncio
import itertools
import threading

import pytest
from django.contrib.auth import get_user_model
from django.utils.decorators import async_only_middleware

from notifications.api import notify
from notifications.http import Problem
from notifications.models import Job
from notifications.realtime import hub
from notifications.realtime.transports import sse
from tests.data.rows import job as make_job
from tests.http.conftest import asgi  # noqa: F401 (a fixture)
from tests.realtime.conftest import in_thread, until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

#: Threads that ask authenticators whether users are signed in, and those with the ones that took their place.
THREADS, MAX_THREADS = 4, 16


class Directory:
    """An authenticator: tokens are names of users. ``hung`` ones are answered when ``answer`` is set."""

    def __init__(self):
        self.revoked, self.hung, self.failing, self.asked = set(), set(), set(), []
        self.hanging = 0
        self.answer = threading.Event()

    def __call__(self, request):
        token = request.headers.get("Authorization", "").removeprefix("Token ")
        if not token:
            return None
        self.asked.append(token)
        if token in self.hung:
            self.hanging += 1
            self.answer.wait(60)
        if token in self.failing:
            raise SystemExit("The directory is away.")
        if token in self.revoked:
            raise Problem(401, "The token was revoked.")
        return get_user_model().objects.get(username=token.partition("-")[0])


@pytest.fixture
def directory(settings, monkeypatch, set_bounds, short_ticks):
    """The authenticator of the project. Streams ask it when ask_now() is called; a second of a stream takes 20 ms."""
    directory = Directory()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": [directory]}
    monkeypatch.setattr(hub, "SESSION_CHECK_TICKS", 10**9)
    set_bounds(beats=60)
    yield directory
    directory.answer.set()


@pytest.fixture
def open_stream(asgi, directory):  # noqa: F811
    """open_stream(token, path) returns a stream that has begun."""

    async def open_stream(token, path="events/"):
        stream = await asgi(path, headers={"Authorization": f"Token {token}"})
        await stream.wait_for_response()
        assert stream.status == 200
        assert await stream.receive() == {"retry": "3000"}
        return stream

    return open_stream


@pytest.fixture
def output(user):
    """The path of the events of the output of a running job of the user."""
    job = make_job(user, state="running")
    Job.objects.filter(pk=job.pk).update(fence=1, attempt=1)
    return f"jobs/{job.pk}/output/?offset=0&live=sse"


async def read_names(stream):
    """Return the names of the events until the stream ends."""
    names = []
    while (event := await stream.receive()) is not None:
        names.append(event.get("event"))
    return names


async def receive_title(stream):
    """Return the title of the next change."""
    while (event := await stream.receive()).get("event") != "change":
        assert event is not None
    return event["data"]["items"][0]["title"]


def ask_now():
    for stream in hub.current_hub().subscribers():
        stream.next_comment_at = 0.0


async def ask(directory, token):
    """Wait until an authenticator was asked for a token, and all streams have an answer."""
    before = directory.asked.count(token)
    ask_now()
    await until(lambda: directory.asked.count(token) > before)
    await until(lambda: not any(stream.is_unconfirmed for stream in hub.current_hub().subscribers()))


async def test_streams_of_a_revoked_token_end(directory, open_stream, user, output):
    """Events and output of a revoked token end with `signed_out`; another token of the same user goes on."""
    events, text = await open_stream(user.username), await open_stream(user.username, output)
    other = await open_stream(f"{user.username}-2")
    await ask(directory, user.username)
    directory.revoked.add(user.username)
    ask_now()
    assert (await read_names(events))[-1] == "bye"
    assert (await read_names(text))[-1] == "bye"
    await ask(directory, f"{user.username}-2")
    await in_thread(notify, user, "goes on")
    assert await receive_title(other) == "goes on"


async def test_token_that_now_belongs_to_another_user(directory, open_stream, user, other_user, monkeypatch):
    """It does not read the stream of its former user."""
    events = await open_stream(user.username)
    monkeypatch.setattr(Directory, "__call__", lambda self, request: other_user)
    ask_now()
    assert (await read_names(events))[-1] == "bye"


async def test_authenticators_that_hang_stop_nobody(
    directory, open_stream, user, other_user, make_user, set_bounds
):
    """Streams without an answer end without a `bye`. Others are asked about as before, and then these again."""
    set_bounds(answers=0.05, beats=1.0)
    hung = [await in_thread(make_user, f"hung {number}") for number in range(THREADS + 1)]
    streams = [await open_stream(each.username) for each in hung for _ in range(2)]
    other = await open_stream(other_user.username)
    directory.hung |= {each.username for each in hung}
    assert not any("bye" in names for names in await asyncio.gather(*map(read_names, streams)))
    await ask(directory, other_user.username)
    await in_thread(notify, other_user, "goes on")
    assert await receive_title(other) == "goes on"
    directory.revoked.add(other_user.username)
    ask_now()
    assert (await read_names(other))[-1] == "bye"
    directory.hung.clear()
    directory.answer.set()
    again = await open_stream(hung[0].username)
    await ask(directory, hung[0].username)
    await in_thread(notify, hung[0], "back")
    assert await receive_title(again) == "back"


async def test_authenticators_that_occupy_all_threads(
    asgi,  # noqa: F811
    directory,
    open_stream,
    other_user,
    make_user,
    set_bounds,
):
    """Streams that cannot be asked about end without a `bye`; their next request asks in its own thread."""
    set_bounds(answers=0.05, beats=0.3)
    names = (f"hung {number}" for number in itertools.count())
    # A stream that ends before its question has a thread, as on a slow machine, occupies none.
    while missing := MAX_THREADS - directory.hanging:
        users = [await in_thread(make_user, name) for name in itertools.islice(names, missing)]
        streams = [await open_stream(each.username) for each in users]
        directory.hung |= {each.username for each in users}
        assert not any("bye" in events for events in await asyncio.gather(*map(read_names, streams)))
    other = await open_stream(other_user.username)
    assert "bye" not in await read_names(other)
    directory.revoked.add(other_user.username)
    refused = await asgi("events/", headers={"Authorization": f"Token {other_user.username}"})
    assert (await refused.wait_for_response()).status == 401


async def test_authenticators_that_raise(directory, open_stream, user):
    """An error signs nobody out: the stream ends without a `bye`, and its client reconnects."""
    events = await open_stream(user.username)
    directory.failing.add(user.username)
    ask_now()
    await until(lambda: directory.asked.count(user.username) > 1)
    ask_now()
    assert "bye" not in await read_names(events)
    directory.failing.clear()
    events = await open_stream(user.username)
    await ask(directory, user.username)


async def test_users_of_middleware_without_a_session(
    asgi,  # noqa: F811
    directory,
    settings,
    user,
    monkeypatch,
):
    """Nothing can be asked again about them, so their streams end after 30 s and are requested again."""
    monkeypatch.setattr(sse, "MAX_UNCONFIRMED_SECONDS", 0.2)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.sign_in_by_header"]
    events = await asgi("events/", headers={"X-User": user.username})
    await events.wait_for_response()
    assert "bye" not in await read_names(events)
    signed_in = await asgi("events/", user)
    await signed_in.start()
    later = await asgi("events/", headers={"X-User": user.username})
    await later.wait_for_response()
    await read_names(later)
    await in_thread(notify, user, "goes on")
    assert await receive_title(signed_in) == "goes on"


@async_only_middleware
def sign_in_by_header(get_response):
    """Middleware of a project that signs users in without a session."""

    async def middleware(request):
        if name := request.headers.get("X-User"):
            request.user = await get_user_model().objects.aget(username=name)
        return await get_response(request)

    return middleware
