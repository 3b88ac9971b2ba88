"""The answer: JSON, text, status."""

import dataclasses

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from notifications import outbound


def response(body=b"", content_type="application/json", status=200, history=()):
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": content_type}))
    return outbound.Response(
        status=status, url="https://api.example/a", headers=headers, body=body, elapsed=0.1, history=history
    )


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}), (b'"\xc3\xa4"', "ä"), (b"0", 0)]
)
def test_json(body, value):
    """The body as JSON."""
    assert response(body).json() == value


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"NaN", b'{"a": -Infinity}', b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5000]
)
def test_not_json(body):
    """What is no JSON is a BadResponse, however it is broken."""
    with pytest.raises(outbound.BadResponse, match=r"^The answer of api\.example is not JSON\.$"):
        response(body).json()


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
    """The body as text, in the charset that is named if there is such a one."""
    assert response(body, content_type).text() == text


@pytest.mark.parametrize("status", [200, 204, 302, 304, 399])
def test_good_status(status):
    """A status below 400 is no error."""
    answer = response(status=status)
    assert answer.raise_for_status() is answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "api.example answered with status 404 (Not Found)."),
        (503, "api.example answered with status 503 (Service Unavailable)."),
        (599, "api.example answered with status 599."),
    ],
)
def test_bad_status(status, words):
    """A status of 400 or more is an error in words, with the status in it."""
    with pytest.raises(outbound.BadStatus) as bad:
        response(status=status).raise_for_status()
    assert (str(bad.value), bad.value.status) == (words, status)


def test_names_the_first_host():
    """After a redirect errors name the host that was asked for."""
    first = outbound.Response(
        status=302, url="https://first.example:8443/", headers=response().headers, body=b"", elapsed=0.1
    )
    with pytest.raises(outbound.BadStatus, match=r"^first\.example:8443 answered"):
        response(status=500, history=(first,)).raise_for_status()


def test_frozen():
    """A response cannot be changed, and its repr shows no headers and no body."""
    answer = response(b"secret")
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.status = 500
    assert "secret" not in repr(answer)
    assert "Content-Type" not in repr(answer)


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
    """Every error is an OutboundError with a sentence for a person."""
    assert issubclass(error, outbound.OutboundError)
    assert str(error()).endswith(".")
    assert str(error("Other words.")) == "Other words."
