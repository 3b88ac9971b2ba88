"""Accept, If-None-Match and Prefer."""

import pytest
from django.test import AsyncRequestFactory, RequestFactory

from notifications.http.negotiation import (
    if_none_match,
    parse_wait,
    preferred_media_type,
    prefers_async,
    wait_seconds,
)

pytestmark = pytest.mark.nightly_on_postgres

MEDIA_TYPES = ["text/html", "application/json"]


def padded(value, size):
    """Return a header of ``size`` bytes that begins with ``value`` and otherwise has no effect."""
    return value + "," * (size - len(value))


@pytest.mark.parametrize(("size", "is_read"), [(2048, True), (2049, False)])
def test_long_headers_count_as_absent(size, is_read):
    """Prefer and If-None-Match over 2 kB are ignored: they are optional."""
    request = RequestFactory().get("/", headers={"If-None-Match": padded('"a"', size)})
    assert if_none_match(request) == (['"a"'] if is_read else None)
    assert (
        prefers_async(RequestFactory().get("/", headers={"Prefer": padded("respond-async", size)})) is is_read
    )
    assert wait_seconds(AsyncRequestFactory().get("/", headers={"Prefer": padded("wait=5", size)})) == (
        5 if is_read else 0
    )


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html; q=0.5, application/json", "application/json"),
        ("text/html ; q = 0.5 , application/json", "application/json"),
        ('text/html;a="x;q=1,";q=0.1, application/json;q=0.5', "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/html".ljust(2048), "text/html"),
        ("text/html".ljust(2049), None),
    ],
)
def test_preferred_media_type(accept, media_type):
    """Weights count with and without spaces around them."""
    assert (
        preferred_media_type(RequestFactory().get("/", headers={"Accept": accept}), MEDIA_TYPES) == media_type
    )


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("WAIT = 5", 5),
        ('wait="5"', 5),
        ("wait=5; x=y", 5),
        ("return=minimal, wait=5", 5),
        ('x="a, wait=9", wait=5', 5),
        ('x="a\\", wait=9", wait=5', 5),
        ("wait=5, wait=9", 5),
        ("wait=20", 20),
        ("wait=21", 20),
        ("wait=" + "9" * 5000, 20),
        ("wait=0", 0),
        ("wait=000000000005", 5),
        ("", 0),
        (",,,", 0),
        ("wait", 0),
        ("wait=", 0),
        ('wait=""', 0),
        ('wait="', 0),
        ("wait=-1", 0),
        ("wait=+5", 0),
        ("wait=1.5", 0),
        ("wait=1e1", 0),
        ("wait=five", 0),
        ("wait=5s", 0),
        ("wait=5 5", 0),
        ("wait==5", 0),
        ("wait=\u0665", 0),
        ("wait=\u00b2", 0),
        ("wait=NaN", 0),
        ("wait=x, wait=5", 0),
        ('"wait=5', 0),
        ("await=5", 0),
        ("wait:5", 0),
        (";wait=5", 0),
        ("\x00wait=5", 0),
        ("=5", 0),
        ('x="' + "\\" * 10_000 + "wait=5", 0),
        (",".join(["x"] * 10_000), 0),
    ],
)
def test_prefer_wait(prefer, seconds):
    """The first wait counts. A value that is not a number, or a header that cannot be parsed, counts as 0."""
    assert parse_wait(prefer) == seconds
