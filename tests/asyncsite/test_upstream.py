"""The sample upstream on Daphne: each endpoint, and invalid input."""

import http.client
import sys
import time

import pytest

from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.site import ROOT

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "daphne",
        "-b",
        "127.0.0.1",
        "-p",
        str(port),
        "asyncsite.upstream:application",
    ]
    process = Process(command, log=tmp_path_factory.mktemp("upstream") / "log", cwd=ROOT)
    process.wait_until(lambda: is_listening(port), what="the upstream to listen")
    yield port
    process.stop()


@pytest.fixture
def get(server):
    """Return a function that requests a path, and returns the response with its body."""

    def get(path):
        connection = http.client.HTTPConnection("127.0.0.1", server, timeout=30)
        try:
            connection.request("GET", f"/upstream/{path}")
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer
        finally:
            connection.close()

    return get


def test_ok_and_json(get):
    assert (get("ok").status, get("ok").body) == (200, b"ok\n")
    answer = get("json?page=2")
    assert answer.headers["content-type"] == "application/json"
    assert b'"page": "2"' in answer.body


def test_slow_takes_the_given_time(get):
    started = time.monotonic()
    assert get("slow?s=0.3").status == 200
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("code", [200, 204, 304, 404, 429, 503, 599])
def test_status_returns_the_code(get, code):
    assert get(f"status/{code}").status == code


def test_flaky_fails_twice_then_works(get):
    """Each key has its own count."""
    assert [get("flaky?key=a").status for _ in range(4)] == [503, 503, 200, 200]
    assert get("flaky?key=b").status == 503


def test_redirect_uses_the_given_target(get):
    """The default is 302. A line break in the target does not end the header."""
    answer = get("redirect")
    assert (answer.status, answer.headers["location"]) == (302, "/upstream/ok")
    answer = get("redirect?to=http://169.254.169.254/%0d%0aSet-Cookie:a&status=307")
    assert (answer.status, answer.headers["location"]) == (307, "http://169.254.169.254/%0D%0ASet-Cookie:a")
    assert "set-cookie" not in answer.headers


def test_big_sends_the_megabytes(get):
    assert len(get("big?mb=2.5").body) == 2.5 * 1024 * 1024


def test_drop_closes_the_connection_in_the_middle_of_the_response(get):
    """At once, without the client's timeout."""
    started = time.monotonic()
    with pytest.raises(http.client.IncompleteRead) as error:
        get("drop")
    assert error.value.partial == b"this response ends in the mid"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("slow?s=61", b"s must be a number from 0 to 60."),
        ("slow?s=nan", b"s must be a number from 0 to 60."),
        ("slow?s=-1", b"s must be a number from 0 to 60."),
        ("slow?s=x", b"s must be a number from 0 to 60."),
        ("big?mb=65", b"mb must be a number from 0 to 64."),
        ("status/", b"The code in status/<code> must be from 200 to 599."),
        ("status/99", b"The code in status/<code> must be from 200 to 599."),
        ("status/600", b"The code in status/<code> must be from 200 to 599."),
        ("status/%D9%A2%D9%A0%D9%A0", b"The code in status/<code> must be from 200 to 599."),
        ("redirect?status=200", b"status must be one of 301, 302, 303, 307, 308."),
        ("redirect?status=302.5", b"status must be one of 301, 302, 303, 307, 308."),
        ("redirect?to=" + "x" * 2001, b"to must have at most 2000 characters."),
        ("flaky?key=" + "x" * 2001, b"key must have at most 2000 characters."),
        (
            "json?" + "&".join(f"a{number}=1" for number in range(21)),
            b"There are too many parameters. The limit is 20.",
        ),
    ],
)
def test_invalid_input_is_400_with_the_limits(get, path, text):
    answer = get(path)
    assert (answer.status, answer.body.strip()) == (400, text)


@pytest.mark.parametrize(
    "path", ["", "nothing", "ok%2f..%2f..", "json?%ff=%ff&a", "flaky?key=%00%ff", "redirect?to=%ff"]
)
def test_unusual_input_causes_no_server_error(get, path):
    """A 404 names the endpoints."""
    answer = get(path)
    assert answer.status in (200, 302, 404, 503)
    if answer.status == 404:
        assert b"Use one of: ok, slow, status, flaky, redirect, big, json, drop." in answer.body
