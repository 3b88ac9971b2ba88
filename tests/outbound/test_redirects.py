"""Redirects: followed by RFC 9110, section 15.4, and without carrying credentials away."""

from urllib.parse import quote

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from notifications import outbound
from notifications.outbound.guard import Forbidden, parse
from notifications.outbound.redirects import Ask, follow

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
    """A second upstream, another origin."""
    other = Upstream()
    allow(upstream.place, other.place)
    yield other
    other.close()


@pytest.mark.parametrize(
    ("status", "method", "then"),
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
async def test_method(upstream, status, method, then):
    """The method and the body go on as the status says."""
    data = None if method in ("GET", "HEAD") else "body"
    response = await outbound.request(method, upstream.url(f"/redirect?status={status}&to=/echo"), data=data)
    last = upstream.seen[-1]
    assert (last.method, last.path) == (then, "/echo")
    if then == method:
        assert last.body.decode() == (data or "")
    else:
        assert last.body == b""
        assert "Content-Type" not in last.headers
    assert response.url == upstream.url("/echo")
    assert [(hop.status, hop.body) for hop in response.history] == [(status, b"")]
    assert response.history[0].headers["Location"] == "/echo"


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_other_statuses(upstream, status):
    """Other statuses of the 300s are answers."""
    assert (await outbound.get(upstream.url(f"/redirect?status={status}&to=/ok"))).status == status


async def test_without_location(upstream):
    """A redirect that leads nowhere is an answer."""
    assert (await outbound.get(upstream.url("/status/302"))).status == 302


async def test_five(upstream):
    """Five redirects are followed, a sixth is an error."""
    to = "/ok"
    for _ in range(5):
        to = f"/redirect?to={quote(to)}"
    response = await outbound.get(upstream.url(to))
    assert (response.text(), len(response.history)) == ("ok", 5)
    with pytest.raises(outbound.BadResponse, match=f"^{upstream.place} redirects more than 5 times.$"):
        await outbound.get(upstream.url(f"/redirect?to={quote(to)}"))
    upstream.seen.clear()
    with pytest.raises(outbound.BadResponse):
        await outbound.get(upstream.url("/redirect?to="))
    assert len(upstream.seen) == 6


@pytest.mark.parametrize("status", [302, 307])
async def test_credentials_stay_at_home(upstream, other, status):
    """To another origin only harmless headers go along; a port is enough to make another origin."""
    to = quote(other.url("/echo"))
    await outbound.post(
        upstream.url(f"/redirect?status={status}&to={to}"), headers={**SECRETS, **HARMLESS}, json={"a": 1}
    )
    seen = other.seen[-1].headers
    for name, value in HARMLESS.items():
        assert seen[name] == value
    for name, value in SECRETS.items():
        assert seen.get(name) != value
    assert seen["Host"] == other.place


async def test_credentials_do_not_come_back(upstream, other):
    """What was dropped on the way stays dropped when the way leads back."""
    to = quote(other.url(f"/redirect?to={quote(upstream.url('/echo'))}"))
    sent = await outbound.get(upstream.url(f"/redirect?to={to}"), headers=SECRETS)
    assert "authorization" not in sent.json()["headers"]
    assert "x-api-key" not in sent.json()["headers"]


async def test_credentials_go_on_within_the_origin(upstream):
    """Within the origin all headers go along."""
    sent = await outbound.get(
        upstream.url("/redirect?to=/echo"), headers={"Authorization": "Bearer s", "X-Api-Key": "k"}
    )
    assert sent.json()["headers"]["authorization"] == "Bearer s"
    assert sent.json()["headers"]["x-api-key"] == "k"


async def test_cookies_are_not_kept(upstream, stands_for, allow):
    """A cookie that one answer sets is not sent with the next call."""
    stands_for({"api.test": ["127.0.0.1"]})  # a name: cookies of addresses are ignored anyway
    allow(f"api.test:{upstream.port}")
    for path in ("/echo", "/echo", "/redirect?to=/echo"):
        sent = await outbound.get(f"http://api.test:{upstream.port}{path}")
        assert "cookie" not in sent.json()["headers"]


def ask(url):
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": "s"}))
    return Ask(method="GET", target=parse(url), headers=headers, body=None)


def test_from_http_to_https():
    """From http to https it goes on, as to another origin."""
    on = follow(ask("http://example.com/"), 302, "https://example.com/")
    assert str(on.target.url) == "https://example.com/"
    assert "Authorization" not in on.headers


@pytest.mark.parametrize(
    "location", ["http://example.com/", "HTTP://other.example/", "http://example.com:443/"]
)
def test_from_https_to_http(location):
    """From https to http it never goes."""
    with pytest.raises(Forbidden, match="it would leave https for http"):
        follow(ask("https://example.com/"), 302, location)


def test_default_port_is_the_same_origin():
    """A port that is the scheme's own makes no other origin (RFC 6454)."""
    assert "Authorization" in follow(ask("https://example.com/"), 302, "https://Example.com.:443/a").headers


async def test_where_it_led_is_not_told(upstream, other):
    """Errors name what was asked for, not where a redirect led."""
    other.close()
    to = quote(other.url("/echo"))
    with pytest.raises(outbound.Unreachable) as unreachable:
        await outbound.get(upstream.url(f"/redirect?to={to}"))
    assert str(unreachable.value) == f"The server that {upstream.place} redirected to could not be reached."
