"""The resolver that checks addresses, and the sockets that are made for them."""

import socket

import pytest

from notifications import outbound
from notifications.outbound import connector
from notifications.outbound.connector import ForbiddenAddress, PublicResolver, Resolver
from tests.outbound.test_resolver import fake_dns  # noqa: F401 (a fixture)

from .conftest import PUBLIC_HOST, VECTORS


async def test_rebinding_between_calls(public_upstream, canary, resolve_names, allow):
    """A name that resolves to another address after a public first answer is refused."""
    allow(ports=[canary.port])
    addresses = iter([[PUBLIC_HOST], ["127.0.0.1"]])
    resolve_names({"rebind.test": lambda: next(addresses)})
    # Only the canary listens on its port, so that the public answer is requested from the resolver alone.
    found = await connector.PublicResolver().resolve("rebind.test", canary.port)
    assert [result["host"] for result in found] == [PUBLIC_HOST]
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://rebind.test:{canary.port}/")


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1", "0.0.0.0"]])
async def test_rebinding_between_check_and_connect(allow, canary, resolve_names, monkeypatch, addresses):
    """If the resolver lets a reserved address through, the socket is not created."""
    allow(ports=[canary.port])
    resolve_names({"rebind.test": addresses})
    monkeypatch.setattr(connector.PublicResolver, "resolve", connector.Resolver.resolve)
    with pytest.raises(
        outbound.Refused, match=r"rebind\.test:\d+ was not called: it is not on the public internet"
    ):
        await outbound.get(f"http://rebind.test:{canary.port}/")


async def test_resolver_alone(allow, canary, resolve_names, monkeypatch):
    """The resolver refuses a reserved address before a socket would be created."""
    allow(ports=[canary.port])
    resolve_names({"bad.test": ["127.0.0.1"]})
    monkeypatch.setattr(connector, "make_guarded_socket", connector.make_socket)
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://bad.test:{canary.port}/")


def test_reserved_socket():
    """A socket for an address that is not public is not created."""
    for kinds in VECTORS["reserved"].values():
        for address in kinds:
            with pytest.raises(ForbiddenAddress):
                connector.make_guarded_socket(
                    (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, 80, 0, 0))
                )
    connector.make_guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80))).close()


async def test_families(resolve_names):
    """Each address has its family, whatever family is requested: all must be checked."""
    resolve_names({"both.test": ["8.8.8.8", "2606:4700::1"]})
    found = await PublicResolver().resolve("both.test", 443, socket.AF_INET)
    assert [(result["host"], result["family"], result["port"]) for result in found] == [
        ("8.8.8.8", socket.AF_INET, 443),
        ("2606:4700::1", socket.AF_INET6, 443),
    ]


async def test_not_public(resolve_names):
    """An answer with one address that is not public is an error, which does not contain the address."""
    resolve_names({"mixed.test": ["8.8.8.8", "10.1.2.3"]})
    with pytest.raises(ForbiddenAddress) as forbidden:
        await PublicResolver().resolve("mixed.test", 443)
    assert "10.1.2.3" not in str(forbidden.value)
    assert len(await Resolver().resolve("mixed.test", 443)) == 2


async def test_cache(
    fake_dns,  # noqa: F811
    monkeypatch,
    set_bounds,
):
    """A resolver caches an answer for CACHE_SECONDS, and checks it each time."""
    public_resolver = PublicResolver()
    for _ in range(3):
        assert await public_resolver.resolve("a.test", 80)
    assert fake_dns.resolved == ["a.test"]
    with monkeypatch.context() as context:
        context.setattr(connector, "describe_reserved", lambda address: "not public any more")
        with pytest.raises(ForbiddenAddress):
            await public_resolver.resolve("a.test", 80)
    set_bounds(known=0)
    for host in ("b.test", "b.test"):
        assert await public_resolver.resolve(host, 80)
    assert fake_dns.resolved == ["a.test", "b.test", "b.test"]
    monkeypatch.setattr(connector, "MAX_CACHED_NAMES", 3)
    for number in range(9):
        await public_resolver.resolve(f"{number}.test", 80)
    assert len(public_resolver._cache) == 3


def test_family_and_type_of_sockets():
    """A socket has the family and type of the connection attempt."""
    made = connector.make_guarded_socket(
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("2606:4700::1", 80, 0, 0))
    )
    with made:
        assert (made.family, made.type) == (socket.AF_INET6, socket.SOCK_STREAM)
