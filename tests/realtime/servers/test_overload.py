"""Requests that fail for lack of a resource are answered with 503."""

import asyncio
import contextlib
import errno
import json
import sqlite3

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse, HttpResponseServerError
from django.urls import clear_url_caches, path

from notifications.db.threads import NoThread
from notifications.db.unavailable import is_unavailable
from notifications.realtime.servers import overload

#: What the view raises.
raised = []

ERRORS = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("can't start new thread"),
    MemoryError(),
    NoThread("none"),
    OperationalError("away"),
    InterfaceError("closed"),
]
OTHER_ERRORS = [FileNotFoundError(errno.ENOENT, "none"), RuntimeError("other"), ValueError("other")]


def fail(request):
    if raised:
        raise raised[0]
    return HttpResponse("fine")


def show_error(request):
    return HttpResponseServerError("The project's own page")


urlpatterns = [path("fail/", fail)]
handler500 = show_error


@pytest.fixture(autouse=True)
def prepared(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.ALLOWED_HOSTS = ["*"]
    overload.prepare()
    yield
    raised.clear()


async def request(application):
    """Return the messages of the response."""
    sent = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/fail/", "query_string": b"", "headers": []}
    await overload.call_or_refuse(application, scope, receive, send)
    return sent


def assert_is_refusal(sent):
    start, body = sent
    assert start["status"] == 503
    headers = dict(start["headers"])
    assert headers[b"retry-after"] == b"2"
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert json.loads(body["body"])["status"] == 503


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_a_view_that_lacks_a_resource(error):
    """Django answers with 500 itself, which is replaced."""
    raised.append(error)
    assert is_unavailable(error)
    assert_is_refusal(await request(ASGIHandler()))


async def test_an_error_page_that_fails_too(monkeypatch):
    def fail_too(request):
        raise LookupError

    monkeypatch.setattr("tests.realtime.servers.test_overload.handler500", fail_too)
    clear_url_caches()
    raised.append(ERRORS[0])
    assert_is_refusal(await request(ASGIHandler()))


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_application_that_lacks_a_resource(error):
    """As where asgiref cannot start a thread: the error comes out of Django's handler."""

    async def application(scope, receive, send):
        raise error

    assert_is_refusal(await request(application))


async def test_a_resource_that_is_gone_after_the_response(caplog):
    """The response is not changed. What is left to do for it is only logged."""

    async def application(scope, receive, send):
        await ASGIHandler()(scope, receive, send)
        raise ERRORS[0]

    sent = await request(application)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 200
    assert "Too many open files" in caplog.text


async def test_a_missing_table():
    """SQLite raises an OperationalError for it, which does not pass: the project's own page says what is wrong."""
    error = OperationalError("no such table: shop_order")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection, pytest.raises(sqlite3.Error) as info:
        connection.execute("SELECT 1 FROM shop_order")
    error.__cause__ = info.value
    raised.append(error)
    assert (await request(ASGIHandler()))[0]["status"] == 500


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=repr)
async def test_other_errors(error):
    """They stay errors of the project."""
    raised.append(error)
    assert not is_unavailable(error)
    assert (await request(ASGIHandler()))[0]["status"] == 500

    async def application(scope, receive, send):
        raise error

    with pytest.raises(type(error)):
        await request(application)
