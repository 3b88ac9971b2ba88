"""Build the request that a redirect leads to (RFC 9110, section 15.4)."""

from __future__ import annotations

from django.utils.translation import gettext
from multidict import CIMultiDict, CIMultiDictProxy

from .guard import Forbidden, join_location
from .request import Request

MAX_REDIRECTS = 5

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})

# The only headers that are sent to another origin. A list of headers to remove would not do: besides Authorization and
# Cookie, APIs put keys into headers of their own, whose names cannot be known. Trace headers are not sent either.
CROSS_ORIGIN_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-language", "content-type", "user-agent"}
)


def follow(request: Request, status: int, location: str) -> Request:
    """Return the request that a redirect leads to; raise Forbidden for a URL that may not be called.

    303 becomes GET, and so does POST after 301 and 302; the body and the headers about it are then dropped.
    To another origin (scheme, host, port) only CROSS_ORIGIN_HEADERS are sent. https never leads to http.
    """
    target = join_location(request.target, location)
    if request.target.url.scheme == "https" and target.url.scheme == "http":
        raise Forbidden(gettext("it would leave https for http"))
    headers = CIMultiDict(request.headers)
    if target.origin != request.target.origin:
        _keep_only(headers, {name for name in headers if name.lower() in CROSS_ORIGIN_HEADERS})
    request = request._replace(target=target)
    becomes_get = status == 303 and request.method != "HEAD"
    if becomes_get or (status in (301, 302) and request.method == "POST"):
        _keep_only(headers, {name for name in headers if not name.lower().startswith("content-")})
        request = request._replace(method="GET", body=None)
    return request._replace(headers=CIMultiDictProxy(headers))


def _keep_only(headers: CIMultiDict[str], names: set[str]) -> None:
    for name in set(headers) - names:
        headers.popall(name, None)
