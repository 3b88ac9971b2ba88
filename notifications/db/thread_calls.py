"""Calls that wait for a thread of an executor, or run on one."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, NamedTuple


class ThreadCall(Future[Any]):
    """The future of a call.

    ``work``
        What to call. None on a call that ``DaemonExecutor.run()`` gets later.
    ``after``
        Called on the thread after the call, also if that was cancelled. It raises nothing.
    """

    def __init__(
        self, work: Callable[[], Any] | None = None, after: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self.work, self.after = work, after
        self._thread, self._begun_at = 0, 0.0

    def begin(self) -> bool:
        """Take note that this thread makes the call. Returns False if that was cancelled."""
        self._thread, self._begun_at = threading.get_ident(), time.monotonic()
        return self.set_running_or_notify_cancel()

    @property
    def running_seconds(self) -> float:
        """For how long it has run; 0 if it has not begun."""
        return time.monotonic() - self._begun_at if self._begun_at else 0.0

    def describe(self) -> str:
        """Return for how long it has run, and where its code stands."""
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        return f"{self.running_seconds:.0f} s, and another thread takes its place. Its stack:\n{stack}"


class _Raised(NamedTuple):
    error: BaseException


def keep_raised(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what ``result_of()`` makes a call of: its result, or an error that a future cannot have.

    asyncio would change it into another one, or take it for the cancellation of what waits for the future.
    """
    try:
        return function(*args, **kwargs)
    except (
        asyncio.CancelledError,
        CancelledError,
        InvalidStateError,
        StopIteration,
        StopAsyncIteration,
    ) as exc:
        return _Raised(exc)


def result_of(kept: Any) -> Any:
    """Return the result of a call that ``keep_raised()`` made, or raise its error."""
    if isinstance(kept, _Raised):
        raise kept.error
    return kept


def without_base_exceptions(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, and raise RuntimeError for a BaseException, such as SystemExit of code of the project.

    It would end the event loop that waits for the call.
    """
    try:
        return function(*args, **kwargs)
    except BaseException as exc:
        if isinstance(exc, Exception):
            raise
        raise RuntimeError(f"The call raised {exc!r}.") from exc
