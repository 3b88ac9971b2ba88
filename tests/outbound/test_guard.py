"""The decision from the text of a URL whether it may be called."""

from ipaddress import ip_address

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from notifications.outbound.guard import (
    Forbidden,
    join_location,
    parse_target,
)
from tests.support.offenders import collect_offenders

from .conftest import VECTORS

REFUSED = [url for urls in VECTORS["refused_urls"].values() for url in urls]
REFUSED += [f"http://{host}/" for hosts in VECTORS["refused_hosts"].values() for host in hosts]


def test_refused():
    """URLs that are not plain http or https URLs of the public internet are refused by their text."""
    with collect_offenders() as offenders:
        for url in REFUSED:
            with offenders.row(url), pytest.raises(Forbidden):
                parse_target(url).check()


def test_names_of_this_machine(allow):
    """``localhost`` and the names below it are refused by their text, unless the allow list has them."""
    with collect_offenders() as offenders:
        for host in (*VECTORS["names_of_loopback"], "api.localhost", "a.b.LOCALHOST."):
            with offenders.row(ascii(host)), pytest.raises(Forbidden):
                parse_target(f"https://{host}/").check()
    for host in ("localhost.example", "mylocalhost", "localhost-1.example"):
        assert parse_target(f"https://{host}/").check() is False
    allow("localhost:8000")
    assert parse_target("http://localhost:8000/").check() is True


def test_parse():
    """A host has one canonical form, in which it is compared and called."""
    with collect_offenders() as offenders:
        for row in VECTORS["parsed_urls"]:
            with offenders.row(row["url"]):
                target = parse_target(row["url"])
                if ":" in row["host"]:
                    assert ip_address(target.host) == ip_address(row["host"])
                else:
                    assert target.host == row["host"]
                assert target.port == row["port"]
                assert str(target.url) == row.get("called", str(target.url))
                assert target.check() is False


def test_length():
    """A URL has at most 8,000 characters."""
    url = "http://example.com/".ljust(8000, "a")
    assert str(parse_target(url).url) == url
    with pytest.raises(Forbidden, match="longer than 8,000 characters"):
        parse_target(url + "a")


@pytest.mark.parametrize("host", ["a" * 63 + ".example", "a." * 126 + "a"])
def test_long_names(host):
    """Labels of 63 and names of 253 characters (RFC 1035) are valid, longer ones are refused."""
    assert parse_target(f"http://{host}/").host == host
    with pytest.raises(Forbidden):
        parse_target(f"http://a{host}/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.com/", "it does not begin with http:// or https://"),
        ("http://a@example.com/", "it contains a user name or a password"),
        ("http://exam ple.com/", "it contains a space, a backslash or an invisible character"),
        ("http://example.com:25/", r'its port is not in NOTIFICATIONS\["OUTBOUND_PORTS"\]'),
        ("http://a..b/", "its host or port is invalid"),
        ("http://2130706433/", "its address is not written as four decimal numbers"),
        ("http://10.0.0.1/", "it is not on the public internet"),
    ],
)
def test_messages(url, message):
    """Each refusal has its message."""
    with pytest.raises(Forbidden, match=f"^{message}$"):
        parse_target(url).check()


@given(
    st.text(max_size=30),
    st.sampled_from(["http://{}", "http://{}:80/", "http://a.example{}", "https://[{}]/", "{}"]),
)
def test_checked_url_is_called_url(text, shape):
    """For any text, the URL that is called has the checked host and port, and only Forbidden is raised."""
    try:
        target = parse_target(shape.format(text))
    except Forbidden:
        return
    assert target.url.raw_host == target.host
    assert target.url.port == target.port
    assert target.url.scheme in ("http", "https")
    assert target.url.user is None
    again = URL(str(target.url))
    assert (again.raw_host, again.port) == (target.host, target.port)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("127.0.0.1:8000", "https://127.0.0.1:8000/"),
        ("[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000/"),
        ("Example.COM.:8000", "http://example.com:8000/"),
        ("example.com:8000", "http://EXAMPLE.com.:8000/"),
        ("bücher.example:8000", "http://xn--bcher-kva.example:8000/"),
        ("10.0.0.1:80", "http://10.0.0.1/"),
        ("10.0.0.1:443", "https://10.0.0.1/"),
    ],
)
def test_allow_list(allow, entry, url):
    """An entry permits its host and port, in any case and notation."""
    allow(entry)
    assert parse_target(url).check() is True


def test_allow_list_permits_nothing_else(allow):
    """Another notation, name or port of a permitted address is refused."""
    allow("127.0.0.1:8000")
    urls = [
        "http://127.0.0.1:8001/",
        "http://127.0.0.1/",
        "http://127.0.0.2:8000/",
        "http://[::ffff:127.0.0.1]:8000/",
        "http://[64:ff9b::7f00:1]:8000/",
        "http://2130706433:8000/",
        "http://0:8000/",
        "http://127.1:8000/",
        "http://localhost:8000/",
        "http://127.0.0.1:8000@10.0.0.1/",
        "http://127.0.0.1:8000.example.com/",
        "ftp://127.0.0.1:8000/",
    ]
    with collect_offenders() as offenders:
        for url in urls:
            with offenders.row(url), pytest.raises(Forbidden):
                parse_target(url).check()


@pytest.mark.parametrize(
    "entry",
    ["127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:80/", "::1:8000", "*:80", "a b:80", "a:0", "", 8000],
)
def test_invalid_entry(allow, entry):
    """An entry that is not host:port is an error with the correct format."""
    allow(entry)
    with pytest.raises(ImproperlyConfigured, match="Write each entry as host:port, for example "):
        parse_target("http://example.com/").check()


def test_ports(allow):
    """The setting permits another port, for public addresses only."""
    allow(ports=[8080])
    assert parse_target("http://example.com:8080/").check() is False
    with pytest.raises(Forbidden):
        parse_target("http://127.0.0.1:8080/").check()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b?c", "https://example.com/b?c"),
        ("b", "https://example.com/a/b"),
        ("../b", "https://example.com/b"),
        ("?c", "https://example.com/a/x?c"),
        ("//other.example/b", "https://other.example/b"),
        ("http://other.example", "http://other.example"),
        ("HTTPS://Other.Example:443/b#c", "https://other.example/b"),
    ],
)
def test_join_location(location, url):
    """A Location is relative to the URL of its response."""
    assert str(join_location(parse_target("https://example.com/a/x?y"), location).url) == url


def test_ambiguous_location():
    """A Location that programs parse differently is refused."""
    locations = [
        "http:/b",
        "http:b",
        "https:b",
        "///127.0.0.1/",
        "//user@127.0.0.1/",
        "/\\127.0.0.1/",
        "\\\\127.0.0.1/",
        "/a b",
        "\t//127.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//",
        "//[::1",
        "a" * 8001,
        "/\ud800",
    ]
    with collect_offenders() as offenders:
        for location in locations:
            with offenders.row(ascii(location)[:100]), pytest.raises(Forbidden):
                join_location(parse_target("http://example.com/a"), location).check()
