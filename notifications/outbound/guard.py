"""May this URL be called? Read strictly, then compared with ports, allow list and the table of addresses.

Everything here decides from the text of a URL.
What a name stands for is checked where it is looked up (``names``) and where the socket is made (``pools``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from django.core.exceptions import ImproperlyConfigured
from yarl import URL

from .addresses import reserved
from .config import Limits, limits

MAX_URL = 8000  # RFC 9110, section 4.1: what every recipient should support

NOT_PUBLIC = "it is not on the public internet"

# Spaces, controls and the unseen, also of Unicode; a backslash, which some read as a slash; lone surrogates.
_UNSAFE = re.compile(r"[\s\x00-\x20\x7f-\x9f\\\ud800-\udfff\ufeff\u200b-\u200f\u202a-\u202e\u2060-\u2069]")
_HEAD = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:%]+)(?::[0-9]{0,5})?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ENTRY = re.compile(r"[^/?#@\s]+:[0-9]+")


class Forbidden(Exception):
    """The call may not go out; the text completes "was not called: ..." and names no address."""


class ForbiddenAddress(OSError):
    """The address to connect to is not public. An OSError, so that aiohttp hands it on as ``os_error``."""

    def __init__(self, why: str) -> None:
        # The same text for all: else aiohttp merges those of several attempts into a plain OSError.
        super().__init__(NOT_PUBLIC)
        self.why = why


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a URL leads: ``host`` is a lower-case ASCII name or an address in its one usual form.

    ``origin`` is scheme, host and port (RFC 6454) as one text, like ``https://example.com:443``.
    """

    host: str
    port: int
    origin: str
    is_address: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL as it is called, as an object and as text, and where that is."""

    url: URL
    text: str
    place: Place

    @property
    def host(self) -> str:
        return self.place.host

    @property
    def port(self) -> int:
        return self.place.port

    @property
    def origin(self) -> str:
        return self.place.origin


@lru_cache(maxsize=512)
def parse(text: str) -> Target:
    """Read an absolute http or https URL; raise Forbidden for every other text.

    yarl's parser is the only one: the URL object returned is the one that aiohttp connects to.
    The patterns before and after it can only refuse.
    """
    if len(text) > MAX_URL:
        raise Forbidden(f"it is longer than {MAX_URL:,} characters")
    if _UNSAFE.search(text):
        raise Forbidden("it contains a space, a backslash or a character that cannot be seen")
    head = _HEAD.match(text)
    if head is None:
        raise Forbidden("it does not begin with http:// or https://")
    try:
        place = _place(head[0])
        url = URL(text)
        if place.host != url.raw_host:
            url = url.with_host(place.host)
    except ValueError as exc:
        raise Forbidden("its host or port cannot be read") from exc
    if url.port != place.port:
        raise Forbidden("its host or port cannot be read")
    url = url.with_fragment(None)
    return Target(url=url, text=str(url), place=place)


def resolve(base: Target, location: str) -> Target:
    """Read a ``Location`` relative to ``base`` (RFC 3986, section 5); raise Forbidden as ``parse`` does."""
    if len(location) > MAX_URL or _UNSAFE.search(location):
        return parse(location)
    if location.startswith("//"):
        return parse(f"{base.url.scheme}:{location}")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location):
        return parse(location)
    try:
        joined = str(base.url.join(URL(location)))
    except ValueError as exc:
        raise Forbidden("it cannot be read") from exc
    return parse(joined)


def check(target: Target, now: Limits | None = None) -> bool:
    """Return whether the allow list opens ``target``; raise Forbidden if its port or address is not allowed.

    An entry of ``OUTBOUND_ALLOW`` opens exactly the host and port that stand in the URL.
    A name that resolves to an opened address is not opened by it. ``now``: the settings, where they are known.
    """
    place, now = target.place, now or limits()
    if now.allow and (place.host, place.port) in _opened(now.allow):
        return True
    if place.port not in now.ports:
        raise Forbidden("its port is not one of those that may be called")
    if place.is_address and reserved(place.host):
        raise Forbidden(NOT_PUBLIC)
    return False


@lru_cache(maxsize=4096)
def _place(head: str) -> Place:
    """Read scheme and authority, all of a URL before its path; raise Forbidden or ValueError."""
    scheme, _, authority = head.partition("://")
    if "@" in authority:
        raise Forbidden("it contains a user name or a password")
    if not _AUTHORITY.fullmatch(authority):
        raise Forbidden("its host or port cannot be read")
    url = URL(head)
    host, port = _one_form(url.raw_host or ""), url.port
    if not port:
        raise Forbidden("its host or port cannot be read")
    is_address = ":" in host or _ends_in_number(host)
    shown = f"[{host}]" if ":" in host else host
    return Place(host=host, port=port, origin=f"{scheme.lower()}://{shown}:{port}", is_address=is_address)


def _one_form(raw_host: str) -> str:
    """Return the host in the one form that is compared and connected to; raise ValueError if it has none."""
    if ":" in raw_host:
        return IPv6Address(raw_host).compressed
    host = raw_host.lower().removesuffix(".")
    if _ends_in_number(host):
        # Decimal, octal, hexadecimal and short notations are refused: programs disagree on what they mean.
        try:
            return str(IPv4Address(host))
        except AddressValueError as exc:
            raise Forbidden("its address is not written as four decimal numbers") from exc
    if not _NAME.fullmatch(host):
        raise ValueError("not a host name")
    return host


def _ends_in_number(host: str) -> bool:
    """Whether programs may take ``host`` for an IPv4 address (WHATWG URL, "ends in a number")."""
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


@lru_cache(maxsize=16)
def _opened(entries: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    return frozenset(_places(entries))


def _places(entries: Iterable[str]) -> Iterable[tuple[str, int]]:
    for entry in entries:
        try:
            if not _ENTRY.fullmatch(entry):
                raise Forbidden("not host:port")
            target = parse(f"http://{entry}/")
        except (Forbidden, TypeError) as exc:
            raise ImproperlyConfigured(
                f"NOTIFICATIONS['OUTBOUND_ALLOW'] contains {entry!r}. "
                "Write each entry as host:port, for example 127.0.0.1:8000 or [::1]:8000."
            ) from exc
        yield target.host, target.port
