"""Name the async function to await where a sync one is called on an event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

P = ParamSpec("P")
R = TypeVar("R")


def names_async_twin(function: Callable[P, R]) -> Callable[P, R]:
    """Raise Django's error for a query on an event loop with the name of the function that async code awaits."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SynchronousOnlyOperation as exc:
            name = function.__name__
            raise SynchronousOnlyOperation(
                f"{name}() makes queries, which would block the event loop. Use await a{name}()."
            ) from exc

    return call
