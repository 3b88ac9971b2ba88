"""Requests that fail for lack of a resource are answered with 503."""

import asyncio
import contextlib
import errno
import json
import sqlite3
import subprocess
import sys

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse, HttpResponseServerError
from django.urls import clear_url_caches, path

from notifications.db import is_unavailable
from notifications.realtime.servers import overload
from notifications.worker import NoThread
from tests.support.site import ROOT

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

#: A process that opens no file after its start. Each of its two requests fails for lack of a descriptor: one in an
#: application, one in a view, which Django logs and answers with 500.
PROGRAM_WITHOUT_DESCRIPTORS = """
import asyncio, ctypes, errno, json, logging, os, resource, sys
import django
from django.conf import settings
from django.http import HttpResponseServerError
from django.urls import path
apps = ["django.contrib.auth", "django.contrib.contenttypes", "notifications"]
settings.configure(INSTALLED_APPS=apps, ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"])
django.setup()
from django.core.handlers.asgi import ASGIHandler
from notifications.asgi import Application

ctypes.CDLL("libgcc_s.so.1")  # which the C library loads when a thread ends, and without it ends the process
logging.basicConfig(stream=sys.stderr, format="%(message)s")
sent = []

async def view(request):
    raise OSError(errno.EMFILE, "in the view")

async def application(scope, receive, send):
    raise OSError(errno.EMFILE, "in the application")

def handler500(request):
    return HttpResponseServerError()

async def request(application):
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return body.pop() if body else await asyncio.Event().wait()

    async def send(message):
        sent.append(message.get("status") or message["body"].decode())

    scope = {"type": "http", "method": "GET", "path": "/fail/", "query_string": b"", "headers": []}
    await application(scope, receive, send)

async def main():
    applications = [Application(application), Application(ASGIHandler())]  # each calls prepare()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        open(os.devnull)
    except OSError as error:
        sent.append(error.errno)
    for each in applications:
        await request(each)

urlpatterns = [path("fail/", view)]
asyncio.run(main())
print(json.dumps(sent))
"""


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


async def test_a_database_that_is_away_is_logged_once_a_minute(caplog, forgotten_log):
    """Not with a traceback of Django's for each request, of which one outage left 10,885 lines."""
    raised.append(OperationalError("connection refused"))
    for _ in range(5):
        assert_is_refusal(await request(ASGIHandler()))
    forgotten_log.clear()
    await request(ASGIHandler())
    first, second = caplog.records
    assert first.getMessage().endswith("(1 times since the last such line): connection refused")
    assert second.getMessage().endswith("(5 times since the last such line): connection refused")
    assert not first.exc_info


async def test_a_table_that_is_not_migrated(caplog, forgotten_log):
    """503 until `migrate` has run, and one line that says so."""
    raised.append(OperationalError("no such table: notifications_job"))
    for _ in range(3):
        assert_is_refusal(await request(ASGIHandler()))
    (record,) = caplog.records
    assert record.getMessage().startswith("The database is not migrated: no such table: notifications_job. ")


async def test_lack_of_threads_is_logged_once_a_minute(caplog, forgotten_log):
    """In one line, not with a traceback for each request."""

    async def application(scope, receive, send):
        raise NoThread("can't start new thread: the thread was not started.")

    for _ in range(3):
        assert (await request(application))[0]["status"] == 503
    (record,) = caplog.records
    assert record.getMessage().startswith("Responded with 503 for lack of threads")
    assert record.exc_info is None
    forgotten_log.clear()
    await request(application)
    assert len(caplog.records) == 2


def test_a_process_without_descriptors():
    """It refuses both requests and logs the errors in full, although it cannot import a codec or read its source."""
    program = [sys.executable, "-c", PROGRAM_WITHOUT_DESCRIPTORS]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    errno_of_open, *sent = json.loads(done.stdout)
    assert errno_of_open == errno.EMFILE
    assert sent[::2] == [503, 503]
    assert [json.loads(body)["status"] for body in sent[1::2]] == [503, 503]
    refused, _, failed = done.stderr.partition("Internal Server Error: /fail/\n")
    # The source of a frame, for which a traceback reads the file of the module.
    assert "await application(scope, receive, send_or_replace)\n" in refused
    assert refused.startswith(
        "Responded with 503 after a database error: [Errno 24] in the application\nTraceback "
    )
    assert refused.endswith("OSError: [Errno 24] in the application\n")
    # Django escapes the path with the codec unicode_escape before it logs it.
    assert failed.startswith("Traceback ")
    assert failed.endswith("OSError: [Errno 24] in the view\n")
