"""Redirects: followed as in RFC 9110, section 15.4, without leaking credentials."""

from urllib.parse import quote

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from notifications import outbound
from notifications.outbound import Forbidden, parse_target
from notifications.outbound.request import Request, follow

from .upstream import Upstream

SECRETS = {
    "Authorization": "Bearer s",
    "Cookie": "s=1",
    "Proxy-Authorization": "s",
    "X-Api-Key": "s",
    "Host": "a",
}
HARMLESS = {"Accept": "application/json", "Accept-Language": "de", "User-Agent": "me"}


@pytest.fixture
def other(upstream, allow):
    """A second upstream, which is another origin."""
    other = Upstream()
    allow(upstream.address, other.address)
    yield other
    other.close()


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (302, "POST", "GET"),
        (302, "DELETE", "DELETE"),
        (302, "HEAD", "HEAD"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (307, "PATCH", "PATCH"),
        (308, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
async def test_method(upstream, status, method, expected):
    """The status decides whether method and body are kept."""
    data = None if method in ("GET", "HEAD") else "body"
    response = await outbound.request(method, upstream.url(f"/redirect?status={status}&to=/echo"), data=data)
    last = upstream.requests[-1]
    assert (last.method, last.path) == (expected, "/echo")
    if expected == method:
        assert last.body.decode() == (data or "")
    else:
        assert last.body == b""
        assert "Content-Type" not in last.headers
    assert response.url == upstream.url("/echo")
    assert [(hop.status, hop.body) for hop in response.history] == [(status, b"")]
    assert response.history[0].headers["Location"] == "/echo"


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_other_statuses(upstream, status):
    """Other 3xx statuses are final responses."""
    assert (await outbound.get(upstream.url(f"/redirect?status={status}&to=/ok"))).status == status


@pytest.mark.parametrize("status", [301, 303, 307])
async def test_redirects_that_are_not_followed(upstream, status):
    """They are final responses then, with their bodies."""
    url = upstream.url(f"/redirect?status={status}&to=/ok")
    response = await outbound.post(url, data="body", follow_redirects=False)
    assert (response.status, response.headers["Location"], response.history) == (status, "/ok", ())
    async with outbound.stream("POST", url, data="body", follow_redirects=False) as streamed:
        assert (streamed.status, streamed.history) == (status, ())
    assert {request.path for request in upstream.requests} == {f"/redirect?status={status}&to=/ok"}


async def test_without_location(upstream):
    """A redirect without Location is a final response."""
    assert (await outbound.get(upstream.url("/status/302"))).status == 302


async def test_max_redirects(upstream):
    """Five redirects are followed, a sixth is an error."""
    to = "/ok"
    for _ in range(5):
        to = f"/redirect?to={quote(to)}"
    response = await outbound.get(upstream.url(to))
    assert (response.text(), len(response.history)) == ("ok", 5)
    with pytest.raises(outbound.BadResponse, match=f"^{upstream.address} redirects more than 5 times.$"):
        await outbound.get(upstream.url(f"/redirect?to={quote(to)}"))
    upstream.requests.clear()
    with pytest.raises(outbound.BadResponse):
        await outbound.get(upstream.url("/redirect?to="))
    assert len(upstream.requests) == 6


@pytest.mark.parametrize("status", [302, 307])
async def test_headers_to_another_origin(upstream, other, status):
    """Only harmless headers are sent to another origin. Another port is another origin."""
    to = quote(other.url("/echo"))
    await outbound.post(
        upstream.url(f"/redirect?status={status}&to={to}"), headers={**SECRETS, **HARMLESS}, json={"a": 1}
    )
    received = other.requests[-1].headers
    for name, value in HARMLESS.items():
        assert received[name] == value
    for name, value in SECRETS.items():
        assert received.get(name) != value
    assert received["Host"] == other.address


async def test_headers_after_returning(upstream, other):
    """Headers removed at one redirect stay removed when a later one returns to the first origin."""
    to = quote(other.url(f"/redirect?to={quote(upstream.url('/echo'))}"))
    sent = await outbound.get(upstream.url(f"/redirect?to={to}"), headers=SECRETS)
    assert "authorization" not in sent.json()["headers"]
    assert "x-api-key" not in sent.json()["headers"]


async def test_headers_within_the_origin(upstream):
    """All headers are kept within the origin."""
    sent = await outbound.get(
        upstream.url("/redirect?to=/echo"), headers={"Authorization": "Bearer s", "X-Api-Key": "k"}
    )
    assert sent.json()["headers"]["authorization"] == "Bearer s"
    assert sent.json()["headers"]["x-api-key"] == "k"


async def test_cookies_are_ignored(upstream, resolve_names, allow):
    """A cookie of one response is not sent with the next call."""
    resolve_names({"api.test": ["127.0.0.1"]})  # A name, because cookies of IP addresses are ignored anyway.
    allow(f"api.test:{upstream.port}")
    for path in ("/echo", "/echo", "/redirect?to=/echo"):
        sent = await outbound.get(f"http://api.test:{upstream.port}{path}")
        assert "cookie" not in sent.json()["headers"]


def make_request(url):
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": "s"}))
    return Request(method="GET", target=parse_target(url), headers=headers, body=None)


def test_from_http_to_https():
    """A redirect from http to https is followed, as to another origin."""
    redirected = follow(make_request("http://example.com/"), 302, "https://example.com/")
    assert str(redirected.target.url) == "https://example.com/"
    assert "Authorization" not in redirected.headers


@pytest.mark.parametrize(
    "location", ["http://example.com/", "HTTP://other.example/", "http://example.com:443/"]
)
def test_from_https_to_http(location):
    """A redirect from https to http is refused."""
    with pytest.raises(Forbidden, match="it would leave https for http"):
        follow(make_request("https://example.com/"), 302, location)


def test_default_port_is_the_same_origin():
    """The default port written out is the same origin (RFC 6454)."""
    assert (
        "Authorization"
        in follow(make_request("https://example.com/"), 302, "https://Example.com.:443/a").headers
    )


async def test_errors_do_not_reveal_redirects(upstream, other):
    """Errors name the requested host, not where a redirect led."""
    other.close()
    to = quote(other.url("/echo"))
    with pytest.raises(outbound.Unreachable) as unreachable:
        await outbound.get(upstream.url(f"/redirect?to={to}"))
    assert str(unreachable.value) == f"The server that {upstream.address} redirected to could not be reached."
