"""Signals and log lines about calls. They contain host, status, duration and size; no path, query, header or body."""

from __future__ import annotations

import logging
from time import monotonic
from types import TracebackType
from typing import Any

from django.dispatch import Signal

from notifications.signals import outbound_ended, outbound_retrying, outbound_started

from .call import Call

logger = logging.getLogger("notifications.outbound")


class reported:
    """Context manager that reports the start and the end of a call, with its error."""

    __slots__ = ("_call", "_started_at")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        call = self._call
        self._started_at = monotonic()
        if outbound_started.receivers:
            _send(outbound_started, call)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("Outbound call started: call %d, %s %s", call.id, call.method, call.host)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not outbound_ended.receivers and not logger.isEnabledFor(logging.DEBUG):
            return
        call, duration = self._call, monotonic() - self._started_at
        _send(outbound_ended, call, status=call.status, error=error, duration=duration, bytes=call.body_bytes)
        logger.debug(
            "Outbound call ended: call %d, %s %s, %s, %.3f s, %d bytes, attempt %d",
            call.id,
            call.method,
            call.host,
            type(error).__name__ if error is not None else call.status,
            duration,
            call.body_bytes,
            call.attempts,
        )


def report_retry(call: Call, status: int, error: BaseException | None, delay: float) -> None:
    """Report that an attempt has failed and that another one follows after ``delay`` seconds."""
    if outbound_retrying.receivers:
        _send(outbound_retrying, call, status=status, error=error, pause=delay)
    logger.info(
        "Retrying outbound call: call %d, %s %s, attempt %d ended with %s, next in %.2f s",
        call.id,
        call.method,
        call.host,
        call.attempts,
        status or type(error).__name__,
        delay,
    )


def _send(signal: Signal, call: Call, **arguments: Any) -> None:
    try:
        signal.send_robust(
            sender=None, id=call.id, method=call.method, host=call.host, attempt=call.attempts, **arguments
        )
    except RuntimeError:  # asyncio's, for a receiver that is a coroutine function
        logger.exception("Receivers of the signals of outbound calls must be synchronous functions")
