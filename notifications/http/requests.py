"""What the app's own API asks of every request: who, how, and in what form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import DataError
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.http import parse_etags
from django.views.decorators.csrf import csrf_exempt

from notifications.http import csrf
from notifications.problems import ANSWERED, Problem, answer_to, answers_problems
from notifications.realtime.auth import page_user
from notifications.request_limits import MAX_HEADER_BYTES, header
from notifications.validators import INTEGER

#: Bytes of a body, and digits of a number in it.
MAX_BODY_BYTES, MAX_NUMBER_DIGITS = 1024 * 1024, 400

# All but the weight. Nothing is tried twice (possessive quantifiers), so the time grows with the length only.
_PARAMETERS = re.compile(r';\s*+(?!q\s*+=)[^;,"]*+(?:"[^"]*+"[^;,"]*+)*+', re.IGNORECASE)

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def api(method: str) -> Callable[[View], View]:
    """Make a view part of the API: one method (GET answers HEAD too), 401 before CSRF, errors as problems.

    It holds no transaction open (``ATOMIC_REQUESTS``) and answers for itself (``LoginRequiredMiddleware``).
    """

    def decorate(view: View) -> View:
        @csrf_exempt  # checked below, after the user
        @wraps(view)
        @answers_problems
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            admit(request, method)
            return view(request, *args, **kwargs)

        return exempt_from_host(wrapped)

    return decorate


def aapi(view: AsyncView) -> AsyncView:
    """Make an async view part of the API, as ``api`` does. It calls ``admit`` itself, in a thread."""

    @csrf_exempt
    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return await view(request, *args, **kwargs)
        except ANSWERED as exc:
            return answer_to(exc)

    return exempt_from_host(wrapped)


def exempt_from_host(view: Any) -> Any:
    """Leave the view alone with ``ATOMIC_REQUESTS`` and ``LoginRequiredMiddleware``."""
    view._non_atomic_requests = _every_database()
    view.login_required = False
    return view


def admit(request: HttpRequest, method: str, kind: str = "application/json") -> None:
    """Let in who is signed in and asks by this method (GET lets HEAD in too) for what there is.

    Raises Problem: 401, 405, 406 or 403.
    """
    if not signed_in(request):
        raise Problem(401, "Nobody is signed in. Sign in and try again.")
    if not page_user.is_meant(request.META.get("QUERY_STRING", ""), request.user.pk):
        raise Problem(401, "Somebody else is signed in than when this page was made. Load it again.")
    if request.method != method and not (request.method == "HEAD" and method == "GET"):
        allow = "GET, HEAD" if method == "GET" else method
        raise Problem(405, f"{request.method} is not allowed here. Use {method}.", headers={"Allow": allow})
    if request.headers.get("Accept") and preferred_type(request, [kind]) is None:
        raise Problem(406, f"There is only {kind} here. Send it in Accept, or */*, or no Accept at all.")
    if method != "GET":
        _refuse_large(request)
        _check_csrf(request)


def signed_in(request: HttpRequest) -> bool:
    """Whether the request is of somebody who is signed in."""
    user = getattr(request, "user", None)
    try:
        return user is not None and user.is_authenticated
    except (ValueError, DataError):  # a session key that PostgreSQL does not take, with a NUL in it
        return False


def preferred_type(request: HttpRequest, kinds: list[str]) -> str | None:
    """Return which of some media types the client likes best, None if none of them, or ``Accept`` is no list of types
    or longer than 2 kB.

    Parameters of types say nothing here: ``application/json; charset=utf-8`` is JSON.
    """
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    if len(accept) > MAX_HEADER_BYTES:
        return None
    plain = HttpRequest()
    plain.META["HTTP_ACCEPT"] = _PARAMETERS.sub("", accept)
    try:
        return plain.get_preferred_type(kinds)
    except ValueError:
        return None


def entity_tags(request: HttpRequest) -> list[str] | None:
    """Return the strong forms of the tags in ``If-None-Match``, or ``["*"]``; None without any."""
    tags = parse_etags(header(request, "If-None-Match"))
    return [tag.removeprefix("W/") for tag in tags] or None


def is_known(etag: str, request: HttpRequest) -> bool:
    """Whether the client has this already, as it says in ``If-None-Match``: then the answer is 304."""
    known = entity_tags(request)
    return known is not None and (known == ["*"] or etag in known)


@contextmanager
def reading() -> Iterator[None]:
    """Read a body, or a form in it. Raises Problem: 400 or 413."""
    try:
        yield
    except RequestDataTooBig as exc:
        raise Problem(413, "The body is too large. Send less at once.") from exc
    except (SuspiciousOperation, BadRequest, MultiPartParserError, UnreadablePostError) as exc:
        raise Problem(
            400, "The body cannot be read. Send one that is whole and of the type that the request names."
        ) from exc


def json_object(request: HttpRequest) -> dict[str, Any]:
    """Return the JSON object of the body. Raises Problem: 400, 413, 415 or 422."""
    if request.content_type != "application/json":
        raise Problem(415, f"The body is {request.content_type or 'of no type'}. Send application/json.")
    try:
        if len(request.body) > MAX_BODY_BYTES:  # one that came without a length
            raise Problem(413, f"The body is too large. Send at most {MAX_BODY_BYTES} bytes.")
        value = _strict_json(request.body)
    except RequestDataTooBig as exc:
        raise Problem(413, f"The body is too large. Send at most {MAX_BODY_BYTES} bytes.") from exc
    except (ValueError, RecursionError, UnreadablePostError) as exc:
        why = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)[:200]
        raise Problem(400, f"The body is not JSON: {why}. Send one JSON object, encoded as UTF-8.") from exc
    if not isinstance(value, dict):
        raise Problem(422, 'The body is JSON, but no object. Send one, like {"up_to": 7}.')
    return value


def whole_number(value: Any, field: str, *, high: int = INTEGER) -> int:
    """Return an integer of a body. Raises Problem 422."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise Problem(422, f"{field} must be a whole number from 0 to {high}.", field=field)
    return value


def query_limit(request: HttpRequest, usual: int, most: int) -> int:
    """Return how many items a page may have. Raises Problem 422."""
    value = request.GET.get("limit")
    if value is None:
        return usual
    if value.isascii() and value.isdigit() and value.strip("0"):
        return min(int(value.lstrip("0")[:9]), most)  # larger ones are cut
    raise Problem(422, "limit must be a whole number from 1 on.", field="limit")


def query_number(request: HttpRequest, field: str, *, high: int = INTEGER) -> int | None:
    """Return an integer of the query string, None if it is absent. Raises Problem 422."""
    value: Any = request.GET.get(field)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return whole_number(value, field, high=high)


def uuids(value: Any, field: str, most: int) -> list[UUID]:
    """Return a list of at most ``most`` UUIDs. Raises Problem 422."""
    if not isinstance(value, list) or len(value) > most:
        raise Problem(422, f"{field} must be a list of at most {most} ids.", field=field)
    try:
        if not all(isinstance(id, str) for id in value):
            raise ValueError
        return [UUID(id) for id in value]
    except ValueError as exc:
        raise Problem(
            422, f"{field} holds something that is not an id. An id is a UUID.", field=field
        ) from exc


def _refuse_large(request: HttpRequest) -> None:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise Problem(400, "Content-Length is no number. Send the bytes of the body, or none.")
    if int(length[:19]) > MAX_BODY_BYTES:
        raise Problem(413, f"The body is too large. Send at most {MAX_BODY_BYTES} bytes.")


def _check_csrf(request: HttpRequest) -> None:
    check = _Csrf(lambda request: HttpResponse())
    check.process_request(request)
    with reading():  # a form is read for its token
        check.process_view(request, None, (), {})


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise Problem(403, f"{reason} {csrf.remedy(reason)}")


def _every_database() -> Any:
    from django.db import connections

    return set(connections)


def _strict_json(body: bytes) -> Any:
    return json.loads(body.decode(), parse_constant=_no_number, parse_int=_int, object_pairs_hook=_once)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _int(digits: str) -> int:
    if len(digits) > MAX_NUMBER_DIGITS:
        raise ValueError(f"a number has over {MAX_NUMBER_DIGITS} digits")
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ValueError("an object has a key twice")
    return told
