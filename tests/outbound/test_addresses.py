"""The table of addresses that are not on the public internet."""

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from notifications.outbound.addresses import RESERVED_IPV4, RESERVED_IPV6, describe_reserved
from tests.support.offenders import collect_offenders

from .conftest import VECTORS


def test_reserved():
    """Special-purpose addresses, tunnels to them, and text that is no address are not public."""
    with collect_offenders() as offenders:
        for kind, addresses in VECTORS["reserved"].items():
            for address in addresses:
                with offenders.row(f"{kind}: {address}"):
                    assert describe_reserved(address)


def test_public():
    """Addresses outside the reserved ranges are public, also embedded in IPv4-mapped and NAT64 addresses."""
    with collect_offenders() as offenders:
        for address in VECTORS["public"]:
            with offenders.row(address):
                assert describe_reserved(address) is None


def test_whole_range():
    """A range is reserved from its first to its last address."""
    with collect_offenders() as offenders:
        for network in (*RESERVED_IPV4, *RESERVED_IPV6):
            with offenders.row(network):
                assert describe_reserved(str(network[0]))
                assert describe_reserved(str(network[-1]))


@given(st.ip_addresses(v=4))
@example(ipaddress.ip_address("169.254.169.254"))
def test_embedded_ipv4(address):
    """IPv4-mapped and NAT64 addresses are public if the embedded one is; 6to4, Teredo and ISATAP never are."""
    embedded = f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    assert describe_reserved(f"::ffff:{embedded}") == describe_reserved(str(address))
    assert describe_reserved(f"64:ff9b::{embedded}") == describe_reserved(str(address))
    assert describe_reserved(f"2002:{embedded}::1")
    assert describe_reserved(f"2001:0:{embedded}::1")
    assert describe_reserved(f"2606:4700::5efe:{embedded}")
    assert describe_reserved(f"::{embedded}")


@given(st.ip_addresses())
def test_not_laxer_than_python(address):
    """Addresses that this Python calls private, multicast or link-local are reserved."""
    if address.version == 6 and (address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96")):
        return
    if not address.is_global or address.is_multicast:
        assert describe_reserved(str(address))
