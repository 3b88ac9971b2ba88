"""The guard as a whole: whatever is asked for, no connection is made to where none may be made."""

import asyncio
import socket
from urllib.parse import quote

import pytest

from notifications import outbound
from notifications.outbound import pools, resolver
from notifications.outbound.addresses import reserved
from notifications.outbound.guard import ForbiddenAddress

from .conftest import OUTSIDE, VECTORS

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


@pytest.mark.parametrize("host", [*HOSTS, *VECTORS["names_of_loopback"], *RESERVED])
async def test_refused(allow, everywhere, stands_for, host):
    """No notation of an internal address and no name of it reaches a server, although its port is open."""
    stands_for({"localhost": ["127.0.0.1"]})
    allow(ports=[everywhere.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://{host}:{everywhere.port}/")


async def test_localhost_for_real(allow, everywhere):
    """The system's own answer for localhost is refused too."""
    allow(ports=[everywhere.port])
    with pytest.raises(
        outbound.Refused, match=r"^localhost:\d+ was not called: it is not on the public internet\.$"
    ):
        await outbound.get(f"http://localhost:{everywhere.port}/")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        [OUTSIDE, "127.0.0.1"],
        ["127.0.0.1", OUTSIDE],
        [OUTSIDE, OUTSIDE, OUTSIDE, "::ffff:127.0.0.1"],
        [OUTSIDE, "fe80::1%lo"],
        [OUTSIDE, "10.0.0.1"],
        [OUTSIDE, "nonsense"],
    ],
)
async def test_one_bad_address(outside, everywhere, stands_for, allow, addresses):
    """A name with one bad address among its addresses is refused, and so are the good ones of that answer."""
    allow(ports=[everywhere.port, outside.port])
    stands_for({"mixed.test": addresses})
    for port in (everywhere.port, outside.port):
        with pytest.raises(outbound.Refused, match="it is not on the public internet"):
            await outbound.get(f"http://mixed.test:{port}/")
    assert not outside.seen


async def test_public_name(outside, stands_for):
    """A name that stands for public addresses only is called, with its own name as Host."""
    stands_for({"api.test": [OUTSIDE]})
    response = await outbound.get(f"http://api.test:{outside.port}/echo")
    assert response.json()["headers"]["host"] == f"api.test:{outside.port}"


async def test_rebinding_between_calls(outside, everywhere, stands_for, allow):
    """A name that changes its mind after a good first answer is refused when it is looked up again."""
    allow(ports=[everywhere.port])
    answers = iter([[OUTSIDE], ["127.0.0.1"]])
    stands_for({"rebind.test": lambda: next(answers)})
    # Nobody listens there on the canary's port but the canary, so the good answer is asked for only by name.
    found = await resolver.PublicResolver().resolve("rebind.test", everywhere.port)
    assert [result["host"] for result in found] == [OUTSIDE]
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://rebind.test:{everywhere.port}/")


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1", "0.0.0.0"]])
async def test_rebinding_between_check_and_connect(allow, everywhere, stands_for, monkeypatch, addresses):
    """Where the lookup let a bad answer through, the socket is not made."""
    allow(ports=[everywhere.port])
    stands_for({"rebind.test": addresses})
    monkeypatch.setattr(resolver, "reserved", lambda address: None)
    with pytest.raises(
        outbound.Refused, match=r"rebind\.test:\d+ was not called: it is not on the public internet"
    ):
        await outbound.get(f"http://rebind.test:{everywhere.port}/")


async def test_lookup_alone(allow, everywhere, stands_for, monkeypatch):
    """Where the socket would be made, the lookup already refuses."""
    allow(ports=[everywhere.port])
    stands_for({"bad.test": ["127.0.0.1"]})
    monkeypatch.setattr(pools, "reserved", lambda address: None)
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://bad.test:{everywhere.port}/")


def test_socket():
    """The socket for an address that is not public is not made."""
    for kinds in VECTORS["reserved"].values():
        for address in kinds:
            with pytest.raises(ForbiddenAddress):
                pools.checked_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, 80, 0, 0)))
    pools.checked_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80))).close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", INTERNAL)
async def test_redirect_to_internal(outside, everywhere, allow, status, host):
    """A redirect of any status to an internal address is refused, by a public upstream and by an allowed one."""
    allow(ports=[outside.port, everywhere.port])
    to = quote(f"http://{host}:{everywhere.port}/secret")
    url = outside.url(f"/redirect?status={status}&to={to}")
    with pytest.raises(outbound.Refused) as refused:
        await outbound.get(url)
    assert host.strip("[]") not in str(refused.value).replace(outside.place, "")

    allow(outside.place, ports=[everywhere.port])
    with pytest.raises(outbound.Refused, match=f"^{outside.place} redirects to a URL that was not called: "):
        await outbound.post(url, json={})


def locations(host, port):
    """What a redirect may say to lead to a host."""
    return [
        f"http://{host}:{port}/secret",
        f"https://{host}:{port}/secret",
        f"//{host}:{port}/secret",
        f"http://user:password@{host}:{port}/",
        f"//user@{host}:{port}/",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_everything(upstream, everywhere, allow, stands_for, status):
    """A redirect of any status, absolute, without a scheme or with credentials, to any notation is refused."""
    stands_for({"localhost": ["127.0.0.1"]})
    allow(upstream.place, ports=[everywhere.port], OUTBOUND_PER_HOST=50)

    async def refused(to):
        with pytest.raises(outbound.Refused):
            await outbound.get(upstream.url("/redirect"), params={"status": status, "to": to}, deadline=60)

    hosts = [host for host in [*HOSTS, *VECTORS["names_of_loopback"]] if is_sendable(host)]
    all_of_them = [to for host in hosts for to in locations(host, everywhere.port)]
    assert len(all_of_them) > 500
    await asyncio.gather(*map(refused, all_of_them))


def is_sendable(host):
    """Whether a header can carry it, and it is the host of what it stands in."""
    return host.isprintable() and host.isascii() and host.strip() == host and host not in ("", ".")


def test_vectors():
    """There are enough of them."""
    assert len({*HOSTS, *VECTORS["names_of_loopback"], *RESERVED}) >= 250


@pytest.mark.parametrize("url", [url for urls in VECTORS["refused_urls"].values() for url in urls])
async def test_refused_urls(allow, everywhere, stands_for, url):
    """Nor does any other URL that is none of the public internet."""
    stands_for({"example.com": ["127.0.0.1"]})
    allow(ports=[everywhere.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(url)


@pytest.mark.parametrize(
    "to",
    [
        "//127.0.0.1:{}/",
        "http://user:password@127.0.0.1:{}/",
        "http:\\\\127.0.0.1:{}/",
        "http:///127.0.0.1:{}/",
    ],
)
async def test_redirect_in_odd_forms(upstream, everywhere, allow, to):
    """A redirect without a scheme, with credentials or in a form that programs read differently is refused."""
    allow(upstream.place, ports=[everywhere.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(upstream.url(f"/redirect?to={quote(to.format(everywhere.port))}"))


async def test_redirect_to_a_name(upstream, everywhere, allow, stands_for):
    """A redirect to a name that stands for an internal address is refused, and the name is not told."""
    allow(upstream.place, ports=[everywhere.port])
    stands_for({"payroll.corp.test": ["127.0.0.1"]})
    to = quote(f"http://payroll.corp.test:{everywhere.port}/")
    with pytest.raises(outbound.Refused) as refused:
        await outbound.get(upstream.url(f"/redirect?to={to}"))
    assert (
        str(refused.value)
        == f"{upstream.place} redirects to a URL that was not called: it is not on the public internet."
    )


async def test_name_of_an_opened_place(upstream, stands_for, allow):
    """The allow list opens a place as it is written, not by a name that stands for it."""
    stands_for({"friend.test": ["127.0.0.1"]})
    allow(upstream.place, ports=[upstream.port])
    assert (await outbound.get(upstream.url("/ok"))).status == 200
    for host in ("friend.test", "[::ffff:127.0.0.1]", "2130706433"):
        with pytest.raises(outbound.Refused):
            await outbound.get(f"http://{host}:{upstream.port}/ok")
    assert len(upstream.seen) == 1


async def test_opened_name(upstream, stands_for, allow):
    """A name on the allow list may stand for an internal address."""
    stands_for({"friend.test": ["127.0.0.1"]})
    allow(f"friend.test:{upstream.port}")
    assert (await outbound.get(f"http://Friend.test:{upstream.port}/ok")).text() == "ok"


async def test_connections_are_not_shared(upstream, stands_for, allow):
    """A connection that was made without a check is not picked up by a call that must be checked."""
    stands_for({"friend.test": ["127.0.0.1"]})
    url = f"http://friend.test:{upstream.port}/ok"
    allow(ports=[upstream.port])
    await outbound.get(url, guard=False)
    with pytest.raises(outbound.Refused):
        await outbound.get(url)
    allow(f"friend.test:{upstream.port}")
    await outbound.get(url)
    allow(ports=[upstream.port])
    with pytest.raises(outbound.Refused):
        await outbound.get(url)
    assert len(upstream.seen) == 2


async def test_without_guard(upstream, allow):
    """guard=False calls any address and port, and still only http and https without credentials."""
    allow()
    assert (await outbound.get(upstream.url("/ok"), guard=False)).status == 200
    to = quote(upstream.url("/ok"))
    assert (await outbound.get(upstream.url(f"/redirect?to={to}"), guard=False)).status == 200
    with pytest.raises(outbound.Refused):
        await outbound.get("file:///etc/passwd", guard=False)
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://user:password@{upstream.place}/", guard=False)


async def test_no_proxy_of_the_environment(outside, everywhere, monkeypatch, tmp_path):
    """Proxies and .netrc of the environment are not used."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{everywhere.port}/")
    (tmp_path / ".netrc").write_text(f"machine {OUTSIDE} login demo password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    headers = (await outbound.get(outside.url("/echo"))).json()["headers"]
    assert "authorization" not in headers


async def test_many_at_once(outside, everywhere, stands_for, allow):
    """Hundreds of mixed calls at once: the good ones are answered, the bad ones refused."""
    allow(ports=[outside.port, everywhere.port], OUTBOUND_PER_HOST=50)
    stands_for({"good.test": [OUTSIDE], "bad.test": [OUTSIDE, "127.0.0.1"]})

    async def outcome(url):
        try:
            return (await outbound.get(url, deadline=30)).status
        except outbound.OutboundError as exc:
            return type(exc)

    good, bad = f"http://good.test:{outside.port}/ok", f"http://bad.test:{everywhere.port}/"
    assert await asyncio.gather(*map(outcome, [good, bad] * 150)) == [200, outbound.Refused] * 150


async def test_the_log_tells_why(allow, everywhere, stands_for, caplog):
    """Operators find the reason in the log, and no address."""
    caplog.set_level("INFO", "notifications.outbound")
    allow(ports=[everywhere.port])
    stands_for({"bad.test": ["10.1.2.3"]})
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://bad.test:{everywhere.port}/")
    assert caplog.messages == [
        f"Refused a call to bad.test:{everywhere.port}: the address is private use, RFC 1918."
    ]
    assert reserved("10.1.2.3") == "private use, RFC 1918"
