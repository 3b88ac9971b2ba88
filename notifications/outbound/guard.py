"""Decide from the text of a URL whether it may be called: by its syntax, its port, the allow list and its address.

The addresses of a name are checked in ``connector``, where it is resolved and where a socket is created.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.formats import number_format
from django.utils.translation import gettext, gettext_lazy
from yarl import URL

from notifications.conf import settings

from .addresses import describe_reserved

MAX_URL_CHARACTERS = 8000  # RFC 9110, section 4.1: recipients should support at least this length.

NOT_PUBLIC = gettext_lazy("it is not on the public internet")

# Whitespace, control and invisible characters; the backslash, which some programs read as a slash; lone surrogates.
_UNSAFE_CHARACTER = re.compile(
    r"[\s\x00-\x20\x7f-\x9f\\\ud800-\udfff\ufeff\u200b-\u200f\u202a-\u202e\u2060-\u2069]"
)
_SCHEME_AND_AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:%]+)(?::[0-9]{0,5})?")
_IPV4_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_HOST_AND_PORT = re.compile(r"[^/?#@\s]+:[0-9]+")


class Forbidden(Exception):
    """The URL may not be called. The text completes "was not called: ..." and contains no address."""


class ForbiddenAddress(OSError):
    """The address to connect to is not public. An OSError, so that aiohttp carries it as ``os_error``."""

    def __init__(self, reason: str) -> None:
        # The same text for all reasons: aiohttp merges the errors of several attempts into an OSError if they differ.
        super().__init__(str(NOT_PUBLIC))
        self.reason = reason


class Endpoint(NamedTuple):
    """The server of a URL, as ``Target`` has it, and whether its host is an address."""

    host: str
    port: int
    origin: str
    is_ip_address: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL to call, as an object and as text, and its server.

    ``host`` is a lower-case ASCII name or an address in its canonical form. ``origin`` is scheme, host and port
    (RFC 6454) as one text, like ``https://example.com:443``.
    """

    url: URL
    text: str
    host: str
    port: int
    origin: str
    is_ip_address: bool

    def check(self) -> bool:
        """Return whether OUTBOUND_ALLOW permits this; raise Forbidden if neither it nor the other rules do."""
        # The host and port that are written in the URL: a name that resolves to an address in the list is not
        # permitted.
        if (self.host, self.port) in _allowed_endpoints(tuple(settings.OUTBOUND_ALLOW)):
            return True
        if self.port not in settings.OUTBOUND_PORTS:
            raise Forbidden(gettext('its port is not in NOTIFICATIONS["OUTBOUND_PORTS"]'))
        if self.is_ip_address and describe_reserved(self.host):
            raise Forbidden(NOT_PUBLIC)
        if self.host == "localhost" or self.host.endswith(".localhost"):  # RFC 6761, section 6.3
            raise Forbidden(NOT_PUBLIC)
        return False


@lru_cache(maxsize=512)
def parse_target(text: str) -> Target:
    """Parse an absolute http or https URL; raise Forbidden for any other text.

    yarl's parser decides: the URL object that it returns is the one that aiohttp connects to, so that two parsers
    cannot disagree. The patterns can only reject a URL; they never change which host is called.
    """
    if len(text) > MAX_URL_CHARACTERS:
        limit = number_format(MAX_URL_CHARACTERS, use_l10n=True, force_grouping=True)
        raise Forbidden(gettext("it is longer than {count} characters").format(count=limit))
    if _UNSAFE_CHARACTER.search(text):
        raise Forbidden(gettext("it contains a space, a backslash or an invisible character"))
    match = _SCHEME_AND_AUTHORITY.match(text)
    if match is None:
        raise Forbidden(gettext("it does not begin with http:// or https://"))
    try:
        endpoint = _parse_endpoint(match[0])
        url = URL(text)
        if endpoint.host != url.raw_host:
            url = url.with_host(endpoint.host)
    except ValueError as exc:
        raise Forbidden(gettext("its host or port is invalid")) from exc
    if url.port != endpoint.port:
        raise Forbidden(gettext("its host or port is invalid"))
    url = url.with_fragment(None)
    return Target(url=url, text=str(url), **endpoint._asdict())


def join_location(base: Target, location: str) -> Target:
    """Parse a ``Location`` relative to ``base`` (RFC 3986, section 5); raise Forbidden as ``parse`` does."""
    if len(location) > MAX_URL_CHARACTERS or _UNSAFE_CHARACTER.search(location):
        return parse_target(location)
    if location.startswith("//"):
        return parse_target(f"{base.url.scheme}:{location}")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location):
        return parse_target(location)
    try:
        joined = str(base.url.join(URL(location)))
    except ValueError as exc:
        raise Forbidden(gettext("it is invalid")) from exc
    return parse_target(joined)


@lru_cache(maxsize=4096)
def _parse_endpoint(base: str) -> Endpoint:
    scheme, _, authority = base.partition("://")
    if "@" in authority:
        raise Forbidden(gettext("it contains a user name or a password"))
    if not _AUTHORITY.fullmatch(authority):
        raise Forbidden(gettext("its host or port is invalid"))
    url = URL(base)
    host, port = _canonical_host(url.raw_host or ""), url.port
    if not port:
        raise Forbidden(gettext("its host or port is invalid"))
    is_ip_address = ":" in host or _ends_in_number(host)
    in_brackets = f"[{host}]" if ":" in host else host
    origin = f"{scheme.lower()}://{in_brackets}:{port}"
    return Endpoint(host=host, port=port, origin=origin, is_ip_address=is_ip_address)


def _canonical_host(raw_host: str) -> str:
    """Return the host in the form that is compared and connected to; raise ValueError or Forbidden for others."""
    if ":" in raw_host:
        return IPv6Address(raw_host).compressed
    host = raw_host.lower().removesuffix(".")
    if _ends_in_number(host):
        # Decimal, octal, hexadecimal and short notations are refused: programs read them as different addresses.
        try:
            return str(IPv4Address(host))
        except AddressValueError as exc:
            raise Forbidden(gettext("its address is not written as four decimal numbers")) from exc
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("not a host name")
    return host


def _ends_in_number(host: str) -> bool:
    """Return whether programs may read ``host`` as an IPv4 address (WHATWG URL, "ends in a number")."""
    return _IPV4_NUMBER.fullmatch(host.rpartition(".")[2]) is not None


@lru_cache(maxsize=16)
def _allowed_endpoints(entries: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    return frozenset(_parse_entries(entries))


def _parse_entries(entries: Iterable[str]) -> Iterable[tuple[str, int]]:
    for entry in entries:
        try:
            if not _HOST_AND_PORT.fullmatch(entry):
                raise Forbidden("not host:port")
            target = parse_target(f"http://{entry}/")
        except (Forbidden, TypeError) as exc:
            raise ImproperlyConfigured(
                f"NOTIFICATIONS['OUTBOUND_ALLOW'] contains {entry!r}. "
                "Write each entry as host:port, for example 127.0.0.1:8000 or [::1]:8000."
            ) from exc
        yield target.host, target.port
