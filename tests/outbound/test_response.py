"""Responses: JSON, text, status."""

import dataclasses
import math

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from notifications import outbound
from notifications.outbound.response import parse_retry_after


def make_response(body=b"", content_type="application/json", status=200, history=()):
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": content_type}))
    return outbound.Response(
        status=status, url="https://api.example/a", headers=headers, body=body, elapsed=0.1, history=history
    )


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}), (b'"\xc3\xa4"', "ä"), (b"0", 0)]
)
def test_json(body, value):
    assert make_response(body).json() == value


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"NaN", b'{"a": -Infinity}', b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5000]
)
def test_not_json(body):
    """A body that is not JSON raises BadResponse."""
    with pytest.raises(outbound.BadResponse, match=r"^The response from api\.example is not JSON\.$"):
        make_response(body).json()


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"\xc3\xa4", "text/plain", "ä"),
        (b"\xe4", "text/plain; charset=iso-8859-1", "ä"),
        (b"\xe4", 'text/plain; a=b; Charset="ISO-8859-1"', "ä"),
        (b"\xe4", "text/plain", "�"),
        (b"\xc3\xa4", "text/plain; charset=nonsense", "ä"),
        (b"\xc3\xa4", "text/plain; charset=base64", "ä"),
        (b"\xc3\xa4", "text/plain; charset=idna", "ä"),
        (b"\xc3\xa4", "text/plain; charset=\x00", "ä"),
        (b"\xc3\xa4", "", "ä"),
    ],
)
def test_text(body, content_type, text):
    """text() decodes with the charset of the response if Python knows it, else as UTF-8."""
    assert make_response(body, content_type).text() == text


@pytest.mark.parametrize("status", [200, 204, 302, 304, 399])
def test_good_status(status):
    """A status below 400 is no error."""
    response = make_response(status=status)
    assert response.raise_for_status() is response


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "api.example answered with status 404 (Not Found)."),
        (503, "api.example answered with status 503 (Service Unavailable)."),
        (599, "api.example answered with status 599."),
    ],
)
def test_bad_status(status, message):
    """A status of 400 or more is an error with the status in its message."""
    with pytest.raises(outbound.BadStatus) as error:
        make_response(status=status).raise_for_status()
    assert (str(error.value), error.value.status) == (message, status)


def test_error_after_a_redirect():
    """After a redirect errors name the requested host."""
    first = outbound.Response(
        status=302, url="https://first.example:8443/", headers=make_response().headers, body=b"", elapsed=0.1
    )
    with pytest.raises(outbound.BadStatus, match=r"^first\.example:8443 answered"):
        make_response(status=500, history=(first,)).raise_for_status()


def test_frozen():
    """A response is immutable, and its repr contains no headers and no body."""
    response = make_response(b"secret")
    with pytest.raises(dataclasses.FrozenInstanceError):
        response.status = 500
    assert "secret" not in repr(response)
    assert "Content-Type" not in repr(response)


@pytest.mark.parametrize(
    "error",
    [
        outbound.Refused,
        outbound.TimedOut,
        outbound.Unreachable,
        outbound.TooLarge,
        outbound.BadStatus,
        outbound.BadResponse,
    ],
)
def test_errors(error):
    """Every error is an OutboundError with a sentence for users."""
    assert issubclass(error, outbound.OutboundError)
    assert str(error()).endswith(".")
    assert str(error("Other words.")) == "Other words."


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", math.inf),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("9" * 500, None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_parse_retry_after(header, seconds):
    """Retry-After (RFC 9110, section 10.2.3) is seconds or a date; other values are ignored."""
    found = parse_retry_after({"Retry-After": header})
    if seconds == math.inf:
        assert found > 1e11
    else:
        assert found == seconds
