"""``metrics/``: the metrics of jobs for Prometheus, for a token or for staff."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare

from notifications.conf import settings
from notifications.http import (
    Problem,
    exceptions_as_problems,
    exempt_from_project,
    is_signed_in,
    prevent_caching,
)

PERMISSION = "notifications_operations.view_jobstatistics"


@exceptions_as_problems
def _metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics. Errors are problem documents: 405, 401, 403, 501 and 503."""
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, f"{request.method} is not allowed. Use GET.", headers={"Allow": "GET, HEAD"})
    _check_access(request)
    try:
        from notifications.contrib.operations.metrics import exposition
    except ImportError as exc:
        raise Problem(501, "Metrics need prometheus_client. Install the extra prometheus.") from exc
    body, content_type = exposition(request.headers.get("Accept", ""))
    return prevent_caching(HttpResponse(body, content_type=content_type))


def _check_access(request: HttpRequest) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = settings.METRICS_TOKEN
    if scheme.lower() == "bearer":
        if expected and constant_time_compare(token.strip(), expected):
            return
        raise _unauthorized("The token is not that of NOTIFICATIONS['METRICS_TOKEN'].")
    if not is_signed_in(request):
        raise _unauthorized("Send the token as Authorization: Bearer, or sign in as staff.")
    user = request.user
    if not (user.is_active and user.is_staff and user.has_perm(PERMISSION)):
        raise Problem(403, f"You need to be staff with the permission {PERMISSION}.")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


metrics = exempt_from_project(_metrics)
