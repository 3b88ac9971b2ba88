"""The request that a call sends, and the one that a redirect leads to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypedDict
from uuid import uuid4, uuid5

from django.utils.translation import gettext
from multidict import CIMultiDict, CIMultiDictProxy

from notifications import __version__
from notifications.context import running_attempt, running_step
from notifications.tracing.trace_context import outbound_headers

from .body import Form, encode
from .call import Call
from .decompression import ACCEPT_ENCODING
from .guard import Forbidden, Target, join_location, parse_target

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

#: Methods that may be sent twice (RFC 9110, section 9.2.2). Others may with an Idempotency-Key.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Methods that change nothing (section 9.2.1), for which a step sends no key.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: By it a server recognizes a request that it has already received
#: (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
HEADER = "Idempotency-Key"

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
# The only headers that are sent to another origin. A list of headers to remove would not do: besides Authorization and
# Cookie, APIs put keys into headers of their own, whose names cannot be known. Trace headers are not sent either.
CROSS_ORIGIN_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-language", "content-type", "user-agent"}
)

_DEFAULT_HEADERS = CIMultiDictProxy(
    CIMultiDict(
        {
            "Accept": "*/*",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": f"asyncsite-notifications/{__version__}",
        }
    )
)
_COMMON_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_METHOD_TOKEN = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
_LINE_BREAK_OR_NUL = re.compile(r"[\r\n\0]")


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of ``request`` and ``stream``."""

    json: Any
    data: bytes | str | Form | None
    headers: Headers | None
    params: Form | None
    deadline: float
    max_bytes: int
    retries: int
    guard: bool
    idempotency_key: str | bool
    follow_redirects: bool
    is_user_url: bool


class Request(NamedTuple):
    """One HTTP request. A tuple, because one is made for each call."""

    method: str
    target: Target
    headers: CIMultiDictProxy[str]
    body: bytes | None
    #: The Idempotency-Key is that of a step. Nothing says that the server knows such keys.
    has_key_of_step: bool = False

    @property
    def is_idempotent(self) -> bool:
        """Whether sending the request twice has the same effect as sending it once."""
        has_key = HEADER in self.headers and not self.has_key_of_step
        return has_key or self.method in IDEMPOTENT_METHODS

    def with_header(self, name: str, value: str) -> Request:
        """Return a copy of the request with one header set."""
        headers = CIMultiDict(self.headers)
        headers[name] = value
        return self._replace(headers=CIMultiDictProxy(headers))


def build_request(
    method: str,
    url: str,
    json: Any = None,
    data: bytes | str | Form | None = None,
    headers: Headers | None = None,
    params: Form | None = None,
    deadline: float = 10.0,
    max_bytes: int = 5_000_000,
    retries: int = 2,
    guard: bool = True,
    idempotency_key: str | bool = False,
    follow_redirects: bool = True,
    is_user_url: bool = False,
) -> tuple[Call, Request]:
    """Validate the arguments of ``outbound.request`` and return the call and its first request.

    Raises ``Refused`` for a URL that may not be called, and ``ValueError`` or ``TypeError`` for other bad arguments.
    """
    if not 0 < deadline < math.inf:
        raise ValueError(f"deadline is {deadline!r}. It must be a positive number of seconds.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries is {retries!r}. It must be an integer of 0 or more.")
    method = _validate_method(method)
    call = Call(
        method=method,
        host="The URL",
        deadline=deadline,
        max_bytes=max_bytes,
        retries=retries,
        guard=guard,
        follows_redirects=follow_redirects,
        is_user_url=is_user_url,
    )
    body, content_type = encode(json, data)
    target = _parse_url(call, url, params)
    call.host = target.url.raw_authority
    request = Request(method=method, target=target, headers=_build_headers(headers, content_type), body=body)
    if idempotency_key is not False:
        key = make_key(idempotency_key, method, str(target.url), body)
        return call, request.with_header(HEADER, key)
    if method not in SAFE_METHODS and HEADER not in request.headers and (key_of_step := make_key_of_step()):
        request = request.with_header(HEADER, key_of_step)._replace(has_key_of_step=True)
    return call, request


def _parse_url(call: Call, url: str, params: Form | None) -> Target:
    try:
        target = parse_target(url)
        return target if params is None else parse_target(str(target.url.extend_query(params)))
    except Forbidden as exc:
        raise call.refused_error(exc) from exc


def _validate_method(method: str) -> str:
    name = method.upper() if isinstance(method, str) else ""
    if name not in _COMMON_METHODS and (not _METHOD_TOKEN.fullmatch(name) or name in ("CONNECT", "TRACE")):
        raise ValueError(f"method is {method!r}. Use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.")
    return name


def _build_headers(headers: Headers | None, content_type: str) -> CIMultiDictProxy[str]:
    trace_headers = outbound_headers()
    if not headers and not content_type and not trace_headers:
        return _DEFAULT_HEADERS
    merged = CIMultiDict(headers or {})
    for name, value in merged.items():
        if _LINE_BREAK_OR_NUL.search(name + value):
            raise ValueError(f"The header {name!r} contains a line break or a NUL.")
    for name, value in (*_DEFAULT_HEADERS.items(), *trace_headers):
        merged.setdefault(name, value)
    if content_type:
        merged.setdefault("Content-Type", content_type)
    return CIMultiDictProxy(merged)


def make_key(option: str | bool, method: str, url: str, body: bytes | None) -> str:
    """Return ``option`` if it is a valid key, or a generated key if it is True; raise ValueError otherwise.

    In a job the generated key is derived from the job and the request, so that another attempt at the job sends
    the same key. Equal requests of one attempt are numbered, so that each has a key of its own.
    """
    if option is not True:
        if not isinstance(option, str) or not re.fullmatch(r"[\x21-\x7e]{1,200}", option):
            raise ValueError(
                f"idempotency_key is {option!r}. It must be True or 1 to 200 visible ASCII characters."
            )
        return option
    if key := make_key_of_step():
        return key
    attempt = running_attempt()
    if attempt is None:
        return str(uuid4())
    request = f"{method} {url} {sha256(body or b'').hexdigest()}"
    attempt.request_counts[request] += 1
    return str(uuid5(attempt.job_id, f"{request} {attempt.request_counts[request]}"))


def make_key_of_step() -> str | None:
    """Return the key of the next call in a step of a job, None outside of a step.

    It is derived from the job, the name of the step and the number of the call in it, and not from the request, which
    may hold a time.
    """
    step = running_step()
    if step is None:
        return None
    step.requests += 1
    return str(uuid5(step.job_id, f"step {step.name}\0{step.requests}"))


def follow(request: Request, status: int, location: str) -> Request:
    """Return the request that a redirect leads to (RFC 9110, section 15.4); raise Forbidden for a URL that is refused.

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
