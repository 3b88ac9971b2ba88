"""Views for probes: ``health/live/`` and ``health/ready/``. They read no session and give strangers no detail."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future

from django.http import HttpRequest, HttpResponse

from notifications.db.threads import DaemonExecutor, NoThread
from notifications.extension import Finding
from notifications.http.access import async_api_view, json_response
from notifications.http.parsing import parse_query_integer
from notifications.problems import Problem
from notifications.readiness import Missing, find_missing

logger = logging.getLogger("notifications")

#: Seconds for which a finding is given to all requests, so that strangers cannot make the server query more often.
MAX_AGE_SECONDS = 1.0
#: Seconds that a request waits for the finding.
TIMEOUT_SECONDS = 3.0
#: Seconds after which a probe may try again.
RETRY_AFTER_SECONDS = 5


class ReadinessCheck:
    """Finds what is missing on a thread of its own, once at a time, for all requests of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor = DaemonExecutor(1, "notifications-health", keep_connections=True, is_limited=True)
        self._finding: Future[Finding | None] | None = None
        self._begun = 0.0
        self._logged: Finding | None = None

    def begin(self) -> Future[Finding | None]:
        """Return the future of a finding that is at most ``MAX_AGE_SECONDS`` old, or not known yet.

        Raises ``NoThread`` if the process cannot start its thread.
        """
        with self._lock:
            finding = self._finding
            if finding is None or (finding.done() and time.monotonic() - self._begun > MAX_AGE_SECONDS):
                finding = self._finding = self._executor.submit(self._find)
                self._begun = time.monotonic()
            return finding

    def _find(self) -> Finding | None:
        finding = find_missing()
        if finding and finding != self._logged:
            logger.warning(finding.msg)
        self._logged = finding
        return finding


_check = ReadinessCheck()


@async_api_view
async def live(request: HttpRequest) -> HttpResponse:
    """Return 200 while this process answers requests. It reads nothing."""
    _check_method(request)
    return json_response({"status": "ok"})


@async_api_view
async def ready(request: HttpRequest) -> HttpResponse:
    """Return 200 if the database takes writes, is migrated and a worker is alive, else 503; the log has the reason.

    ``?worker=0`` leaves out the worker.
    """
    _check_method(request)
    needs_worker = parse_query_integer(request, "worker", maximum=1) != 0
    try:
        found = asyncio.wrap_future(_check.begin())
        finding = await asyncio.wait_for(asyncio.shield(found), TIMEOUT_SECONDS)
    except (TimeoutError, NoThread) as exc:
        logger.warning("Not ready because the check did not end within %g s: %r", TIMEOUT_SECONDS, exc)
        raise _not_ready() from exc
    if finding and (needs_worker or finding.obj["missing"] is not Missing.WORKER):
        raise _not_ready()
    return json_response({"status": "ok"})


def _check_method(request: HttpRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, f"{request.method} is not allowed. Use GET.", headers={"Allow": "GET, HEAD"})


def _not_ready() -> Problem:
    return Problem(
        503,
        "The site is not ready. The log of the server has the reason.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
