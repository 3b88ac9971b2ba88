"""What the log and other code are told of calls: host, status, duration, bytes; no path, query, header or body."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

from notifications.signals import outbound_ended, outbound_retrying, outbound_started

if TYPE_CHECKING:
    from .call import Call

logger = logging.getLogger("notifications.outbound")


def started(call: Call) -> None:
    """A call begins."""
    if outbound_started.receivers:
        _tell(outbound_started, call)
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Call %d: %s %s begins.", call.id, call.method, call.subject)


def retrying(call: Call, status: int, error: BaseException | None, pause: float) -> None:
    """An attempt has failed, and there will be another one after ``pause`` seconds."""
    if outbound_retrying.receivers:
        _tell(outbound_retrying, call, status=status, error=error, pause=pause)
    logger.info(
        "Call %d: %s %s ended with %s at attempt %d and is tried again in %.2f s.",
        call.id,
        call.method,
        call.subject,
        status or type(error).__name__,
        call.attempts,
        pause,
    )


def ended(call: Call, error: BaseException | None) -> None:
    """A call is over, with an answer or with ``error``."""
    if not outbound_ended.receivers and not logger.isEnabledFor(logging.DEBUG):
        return
    duration = monotonic() - call.began
    _tell(outbound_ended, call, status=call.status, error=error, duration=duration, bytes=call.received)
    logger.debug(
        "Call %d: %s %s ended with %s after %.3f s, %d bytes, attempt %d.",
        call.id,
        call.method,
        call.subject,
        type(error).__name__ if error is not None else call.status,
        duration,
        call.received,
        call.attempts,
    )


def _tell(signal: Signal, call: Call, **more: Any) -> None:
    try:
        signal.send_robust(
            sender=None, id=call.id, method=call.method, host=call.subject, attempt=call.attempts, **more
        )
    except RuntimeError:  # of asyncio, for a receiver that is a coroutine function
        logger.exception("Receivers of signals of outbound calls must be sync functions.")
