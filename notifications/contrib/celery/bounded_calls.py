"""Calls of clients that may wait for ever, each with a time limit for its caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait
from typing import Any, TypeVar

from notifications.db.threads import DaemonExecutor, NoThread

T = TypeVar("T")


class NoAnswer(Exception):
    """A call did not return in time. It may still go on, on a thread that nothing waits for."""


class BoundedCaller:
    """Makes one call after another on a thread of its own, and waits at most ``seconds`` for each.

    A thread that is stuck in a call is replaced, until several are stuck.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._executor = DaemonExecutor(1, name)
        self._seconds = seconds

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return or raise what a call returns or raises. Raises ``NoAnswer``."""
        try:
            future = self._executor.submit(function, *args, **kwargs)
        except NoThread as exc:
            raise NoAnswer(str(exc)) from exc
        if not wait([future], timeout=self._seconds).done:
            if not future.cancel():
                self._executor.write_off(future)
            raise NoAnswer(f"{function.__name__}: no answer within {self._seconds:g} s")
        return future.result()
