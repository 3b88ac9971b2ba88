"""What is asked, and what is asked next after a redirect (RFC 9110, section 15.4)."""

from __future__ import annotations

from typing import NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

from .guard import Forbidden, Target, resolve

LIMIT = 5

STATUSES = frozenset({301, 302, 303, 307, 308})

# Headers that go along to another origin. All others stay here: besides Authorization and Cookie, APIs put
# their keys into headers of their own, and nobody can know all of those names. Traces stay here too.
TRAVELLING = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-language", "content-type", "user-agent"}
)


class Ask(NamedTuple):
    """One request as it is sent. A tuple, because one is made for each call."""

    method: str
    target: Target
    headers: CIMultiDictProxy[str]
    body: bytes | None

    def having(self, name: str, value: str) -> Ask:
        """Return the same request with one header set."""
        headers = CIMultiDict(self.headers)
        headers[name] = value
        return self._replace(headers=CIMultiDictProxy(headers))


def follow(ask: Ask, status: int, location: str) -> Ask:
    """Return the request that a redirect leads to; raise Forbidden for a URL that cannot be called.

    303 becomes GET, and so does POST after 301 and 302; a body and the headers about it are dropped then.
    To another origin (scheme, host, port) only harmless headers go along. From https to http nothing goes.
    """
    target = resolve(ask.target, location)
    if ask.target.url.scheme == "https" and target.url.scheme == "http":
        raise Forbidden("it would leave https for http")
    headers = CIMultiDict(ask.headers)
    if target.origin != ask.target.origin:
        _keep(headers, {name for name in headers if name.lower() in TRAVELLING})
    ask = ask._replace(target=target)
    if (status == 303 and ask.method != "HEAD") or (status in (301, 302) and ask.method == "POST"):
        _keep(headers, {name for name in headers if not name.lower().startswith("content-")})
        ask = ask._replace(method="GET", body=None)
    return ask._replace(headers=CIMultiDictProxy(headers))


def _keep(headers: CIMultiDict[str], names: set[str]) -> None:
    for name in set(headers) - names:
        headers.popall(name, None)
