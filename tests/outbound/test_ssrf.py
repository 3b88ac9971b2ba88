"""The guard as a whole: no call connects to an address that is not permitted."""

import asyncio
from itertools import product
from urllib.parse import quote

import pytest

from notifications import outbound
from tests.support.offenders import collect_offenders

from .conftest import PUBLIC_HOST, VECTORS

HOSTS = [host for hosts in VECTORS["refused_hosts"].values() for host in hosts]
RESERVED = [
    f"[{address}]" if ":" in address else address
    for kind, addresses in VECTORS["reserved"].items()
    if kind not in ("not an address", "with a zone")
    for address in addresses
]
INTERNAL = [
    "127.0.0.1",
    "[::1]",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "2130706433",
    "0x7f.1",
    "127.1",
]


async def test_refused_hosts(allow, canary, resolve_names):
    """No notation of an internal address, and no name of one, reaches a server, although its port is allowed."""
    resolve_names({"localhost": ["127.0.0.1"]})
    allow(ports=[canary.port])
    with collect_offenders() as offenders:
        for host in (*HOSTS, *VECTORS["names_of_loopback"], *RESERVED):
            with offenders.row(ascii(host)):
                with pytest.raises(outbound.Refused):
                    await outbound.get(f"http://{host}:{canary.port}/")
                canary.check()


async def test_localhost_of_the_system(allow, canary):
    """It is refused by its name, whatever the system's own answer is."""
    allow(ports=[canary.port])
    with pytest.raises(
        outbound.Refused, match=r"^localhost:\d+ was not called: it is not on the public internet\.$"
    ):
        await outbound.get(f"http://localhost:{canary.port}/")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        [PUBLIC_HOST, "127.0.0.1"],
        ["127.0.0.1", PUBLIC_HOST],
        [PUBLIC_HOST, PUBLIC_HOST, PUBLIC_HOST, "::ffff:127.0.0.1"],
        [PUBLIC_HOST, "fe80::1%lo"],
        [PUBLIC_HOST, "10.0.0.1"],
        [PUBLIC_HOST, "nonsense"],
    ],
)
async def test_one_reserved_address(public_upstream, canary, resolve_names, allow, addresses):
    """A name with one reserved address is refused, and so are the public addresses of that answer."""
    allow(ports=[canary.port, public_upstream.port])
    resolve_names({"mixed.test": addresses})
    for port in (canary.port, public_upstream.port):
        with pytest.raises(outbound.Refused, match="it is not on the public internet"):
            await outbound.get(f"http://mixed.test:{port}/")
    assert not public_upstream.requests


async def test_public_name(public_upstream, resolve_names):
    """A name with public addresses only is called, with the name as Host."""
    resolve_names({"api.test": [PUBLIC_HOST]})
    response = await outbound.get(f"http://api.test:{public_upstream.port}/echo")
    assert response.json()["headers"]["host"] == f"api.test:{public_upstream.port}"


async def test_redirect_to_internal(public_upstream, canary, allow):
    """A redirect of any status to an internal address is refused, from a public or an allowed upstream."""
    with collect_offenders() as offenders:
        for host, status in product(INTERNAL, [301, 302, 303, 307, 308]):
            to = quote(f"http://{host}:{canary.port}/secret")
            url = public_upstream.url(f"/redirect?status={status}&to={to}")
            with offenders.row(f"{status} to {host}"):
                allow(ports=[public_upstream.port, canary.port])
                with pytest.raises(outbound.Refused) as error:
                    await outbound.get(url)
                assert host.strip("[]") not in str(error.value).replace(public_upstream.address, "")

                allow(public_upstream.address, ports=[canary.port])
                with pytest.raises(
                    outbound.Refused,
                    match=f"^{public_upstream.address} redirects to a URL that was not called: ",
                ):
                    await outbound.post(url, json={})
                canary.check()


def build_locations(host, port):
    """Return Location values that lead to a host."""
    return [
        f"http://{host}:{port}/secret",
        f"https://{host}:{port}/secret",
        f"//{host}:{port}/secret",
        f"http://user:password@{host}:{port}/",
        f"//user@{host}:{port}/",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_all_hosts(upstream, canary, allow, resolve_names, status):
    """Redirects of any status, absolute, without a scheme or with credentials, to any notation are refused."""
    resolve_names({"localhost": ["127.0.0.1"]})
    allow(upstream.address, ports=[canary.port], OUTBOUND_PER_HOST=50)

    async def refused(to):
        with pytest.raises(outbound.Refused):
            await outbound.get(upstream.url("/redirect"), params={"status": status, "to": to}, deadline=60)

    hosts = [host for host in [*HOSTS, *VECTORS["names_of_loopback"]] if is_valid_in_location(host)]
    locations = [to for host in hosts for to in build_locations(host, canary.port)]
    assert len(locations) > 500
    await asyncio.gather(*map(refused, locations))


def is_valid_in_location(host):
    """Return whether a header can contain the host, unchanged and as a host."""
    return host.isprintable() and host.isascii() and host.strip() == host and host not in ("", ".")


def test_number_of_vectors():
    assert len({*HOSTS, *VECTORS["names_of_loopback"], *RESERVED}) >= 250


async def test_refused_urls(allow, canary, resolve_names):
    """Other URLs outside the public internet are refused."""
    resolve_names({"example.com": ["127.0.0.1"]})
    allow(ports=[canary.port])
    with collect_offenders() as offenders:
        for url in (url for urls in VECTORS["refused_urls"].values() for url in urls):
            with offenders.row(ascii(url)):
                with pytest.raises(outbound.Refused):
                    await outbound.get(url)
                canary.check()


@pytest.mark.parametrize(
    "to",
    [
        "//127.0.0.1:{}/",
        "http://user:password@127.0.0.1:{}/",
        "http:\\\\127.0.0.1:{}/",
        "http:///127.0.0.1:{}/",
    ],
)
async def test_ambiguous_redirects(upstream, canary, allow, to):
    """A redirect without a scheme, with credentials or in an ambiguous notation is refused."""
    allow(upstream.address, ports=[canary.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(upstream.url(f"/redirect?to={quote(to.format(canary.port))}"))


async def test_redirect_to_a_name(upstream, canary, allow, resolve_names):
    """A redirect to a name with an internal address is refused, and the error does not contain the name."""
    allow(upstream.address, ports=[canary.port])
    resolve_names({"payroll.corp.test": ["127.0.0.1"]})
    to = quote(f"http://payroll.corp.test:{canary.port}/")
    with pytest.raises(outbound.Refused) as error:
        await outbound.get(upstream.url(f"/redirect?to={to}"))
    assert (
        str(error.value)
        == f"{upstream.address} redirects to a URL that was not called: it is not on the public internet."
    )


async def test_name_of_an_allowed_address(upstream, resolve_names, allow):
    """The allow list permits an address as it is written, not a name that resolves to it."""
    resolve_names({"partner.test": ["127.0.0.1"]})
    allow(upstream.address, ports=[upstream.port])
    assert (await outbound.get(upstream.url("/ok"))).status == 200
    for host in ("partner.test", "[::ffff:127.0.0.1]", "2130706433"):
        with pytest.raises(outbound.Refused):
            await outbound.get(f"http://{host}:{upstream.port}/ok")
    assert len(upstream.requests) == 1


async def test_allowed_name(upstream, resolve_names, allow):
    """A name on the allow list may resolve to an internal address."""
    resolve_names({"partner.test": ["127.0.0.1"]})
    allow(f"partner.test:{upstream.port}")
    assert (await outbound.get(f"http://Partner.test:{upstream.port}/ok")).text() == "ok"


async def test_connections_are_not_shared(upstream, resolve_names, allow):
    """A connection that was made without the guard is not used by a guarded call."""
    resolve_names({"partner.test": ["127.0.0.1"]})
    url = f"http://partner.test:{upstream.port}/ok"
    allow(ports=[upstream.port])
    await outbound.get(url, guard=False)
    with pytest.raises(outbound.Refused):
        await outbound.get(url)
    allow(f"partner.test:{upstream.port}")
    await outbound.get(url)
    allow(ports=[upstream.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(url)
    assert len(upstream.requests) == 2


async def test_without_guard(upstream, allow):
    """guard=False permits any address and port, but only http and https without credentials."""
    allow()
    assert (await outbound.get(upstream.url("/ok"), guard=False)).status == 200
    to = quote(upstream.url("/ok"))
    assert (await outbound.get(upstream.url(f"/redirect?to={to}"), guard=False)).status == 200
    with pytest.raises(outbound.Refused):
        await outbound.get("file:///etc/passwd", guard=False)
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://user:password@{upstream.address}/", guard=False)


async def test_no_proxy_of_the_environment(public_upstream, canary, monkeypatch, tmp_path):
    """Proxies and .netrc of the environment are not used."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}/")
    (tmp_path / ".netrc").write_text(f"machine {PUBLIC_HOST} login demo password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    headers = (await outbound.get(public_upstream.url("/echo"))).json()["headers"]
    assert "authorization" not in headers


async def test_many_at_once(public_upstream, canary, resolve_names, allow):
    """Hundreds of mixed calls at once: public ones succeed, others are refused."""
    allow(ports=[public_upstream.port, canary.port], OUTBOUND_PER_HOST=50)
    resolve_names({"good.test": [PUBLIC_HOST], "bad.test": [PUBLIC_HOST, "127.0.0.1"]})

    async def outcome(url):
        try:
            return (await outbound.get(url, deadline=30)).status
        except outbound.OutboundError as exc:
            return type(exc)

    good, bad = f"http://good.test:{public_upstream.port}/ok", f"http://bad.test:{canary.port}/"
    assert await asyncio.gather(*map(outcome, [good, bad] * 150)) == [200, outbound.Refused] * 150


async def test_log_of_refusals(allow, canary, resolve_names, caplog):
    """The log contains the reason, and no address."""
    caplog.set_level("INFO", "notifications.outbound")
    allow(ports=[canary.port])
    resolve_names({"bad.test": ["10.1.2.3"]})
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://bad.test:{canary.port}/")
    assert caplog.messages == [
        f"Refused a call to bad.test:{canary.port}: the address is private use, RFC 1918."
    ]
