"""The addresses that are not on the public internet.

The tables are from the IANA IPv4 and IPv6 Special-Purpose Address Registries and the IPv6 Global Unicast allocation.
``ipaddress.is_global`` is not used: its results differ between Python versions, and it ignores tunnels.
Networks that the registries call globally reachable (anycast, AS112, AMT) are included too: no API is there.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

RESERVED_IPV4 = {
    IPv4Network(network): name
    for network, name in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private use, RFC 1918"),
        ("100.64.0.0/10", "carrier-grade NAT, RFC 6598"),
        ("127.0.0.0/8", "loopback, RFC 1122"),
        ("169.254.0.0/16", "link-local, RFC 3927"),
        ("172.16.0.0/12", "private use, RFC 1918"),
        ("192.0.0.0/24", "IETF protocol assignments, RFC 6890"),
        ("192.0.2.0/24", "documentation, RFC 5737"),
        ("192.31.196.0/24", "AS112, RFC 7535"),
        ("192.52.193.0/24", "AMT, RFC 7450"),
        ("192.88.99.0/24", "6to4 relay anycast, RFC 7526"),
        ("192.168.0.0/16", "private use, RFC 1918"),
        ("192.175.48.0/24", "direct delegation AS112, RFC 7534"),
        ("198.18.0.0/15", "benchmarking, RFC 2544"),
        ("198.51.100.0/24", "documentation, RFC 5737"),
        ("203.0.113.0/24", "documentation, RFC 5737"),
        ("224.0.0.0/4", "multicast, RFC 5771"),
        ("240.0.0.0/4", "reserved and limited broadcast, RFC 1112 and RFC 919"),
    )
}

RESERVED_IPV6 = {
    IPv6Network(network): name
    for network, name in (
        ("::/96", "unspecified, loopback and IPv4-compatible, RFC 4291"),
        ("64:ff9b:1::/48", "local-use translation, RFC 8215"),
        ("100::/63", "discard-only and dummy prefix, RFC 6666 and RFC 9780"),
        ("2001::/23", "IETF protocol assignments with Teredo, ORCHID and benchmarking, RFC 2928"),
        ("2001:db8::/32", "documentation, RFC 3849"),
        ("2002::/16", "6to4, RFC 3056"),
        ("2620:4f:8000::/48", "direct delegation AS112, RFC 7534"),
        ("3fff::/20", "documentation, RFC 9637"),
        ("5f00::/16", "segment routing, RFC 9602"),
        ("fc00::/7", "unique local, RFC 4193"),
        ("fe80::/10", "link-local, RFC 4291"),
        ("fec0::/10", "site-local, RFC 3879"),
        ("ff00::/8", "multicast, RFC 4291"),
    )
}

# An address in these networks is translated to the IPv4 address in its last 32 bits, and is public if that one is.
# 6to4 and Teredo addresses contain an IPv4 address too, but lead to a network behind a relay: they are reserved.
IPV4_EMBEDDED = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
)

GLOBAL_UNICAST = IPv6Network("2000::/3")

# Bits 32 to 63 of an ISATAP address (RFC 5214), with the universal bit clear or set.
ISATAP_IDENTIFIERS = {0x00005EFE, 0x02005EFE}


@lru_cache(maxsize=4096)
def describe_reserved(address: str) -> str | None:
    """Return what an address that is not public is reserved for, as text for a log, or None for a public address.

    ``address`` is an IPv4 or IPv6 address as text. Other text, and an address with a zone (``fe80::1%eth0``), is
    not public either.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an address"
    if isinstance(parsed, IPv4Address):
        return _describe_reserved_ipv4(parsed)
    return _describe_reserved_ipv6(parsed)


def _describe_reserved_ipv4(address: IPv4Address) -> str | None:
    return next((name for network, name in RESERVED_IPV4.items() if address in network), None)


def _describe_reserved_ipv6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "an address with a zone, RFC 4007"
    if any(address in network for network in IPV4_EMBEDDED):
        return _describe_reserved_ipv4(IPv4Address(int(address) & 0xFFFF_FFFF))
    for network, name in RESERVED_IPV6.items():
        if address in network:
            return name
    if address not in GLOBAL_UNICAST:
        return "outside of global unicast, RFC 4291"
    if int(address) >> 32 & 0xFFFF_FFFF in ISATAP_IDENTIFIERS:
        return "ISATAP, RFC 5214"
    return None
