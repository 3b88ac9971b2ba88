"""The table of addresses that are not on the public internet."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifications.outbound.addresses import RESERVED_IPV4, RESERVED_IPV6, reserved

from .conftest import VECTORS


@pytest.mark.parametrize(
    ("kind", "address"), [(kind, address) for kind, many in VECTORS["reserved"].items() for address in many]
)
def test_reserved(kind, address):
    """Special-purpose addresses, tunnels to them and what is no address are not public."""
    assert reserved(address)


@pytest.mark.parametrize("address", VECTORS["public"])
def test_public(address):
    """Addresses beside the reserved ranges are public, also inside IPv4-mapped and NAT64 ones."""
    assert reserved(address) is None


@pytest.mark.parametrize("network", [*RESERVED_IPV4, *RESERVED_IPV6], ids=str)
def test_whole_range(network):
    """A range is reserved from its first to its last address."""
    assert reserved(str(network[0]))
    assert reserved(str(network[-1]))


@given(st.ip_addresses(v=4))
@example(ipaddress.ip_address("169.254.169.254"))
def test_ipv4_inside(address):
    """IPv4-mapped and NAT64 addresses are as public as the IPv4 address inside; 6to4, Teredo, ISATAP never are."""
    inside = f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    assert reserved(f"::ffff:{inside}") == reserved(str(address))
    assert reserved(f"64:ff9b::{inside}") == reserved(str(address))
    assert reserved(f"2002:{inside}::1")
    assert reserved(f"2001:0:{inside}::1")
    assert reserved(f"2606:4700::5efe:{inside}")
    assert reserved(f"::{inside}")


@given(st.ip_addresses())
def test_not_laxer_than_python(address):
    """What this Python's own table calls private, multicast or link-local is reserved, however it is drawn."""
    if address.version == 6 and (address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96")):
        return
    if not address.is_global or address.is_multicast:
        assert reserved(str(address))
