"""What tasks and other code use of rates. No model is imported: it may be imported before the models are ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from notifications.contrib.rates.declarations import name_of, rate_of
from notifications.extension import require
from notifications.jobs import limit_starts

F = TypeVar("F", bound=Callable[..., Any])

#: Functions with a rate, for system checks.
_declared: dict[str, str] = {}


def rate(key: str) -> Callable[[F], F]:
    """Let jobs of a task start as often as a rate of ``NOTIFICATIONS["RATES"]`` allows. Stands below ``@task``.

    ::

        @task
        @rate("partner:{account}")
        def fetch_orders(account): ...

    ``key``
        The name of a rate, and after a colon what has a limit of its own. It may name arguments of the task, and
        ``{owner}``.

    Each attempt counts, also retries and what goes on after a pause. Raises TypeError and ValueError.
    """
    require("notifications.contrib.rates")
    if not isinstance(key, str):
        raise TypeError(f'rate() takes the name of a rate: @rate("partner"), not {key!r}.')
    if "{" in name_of(key):
        raise ValueError(f"The rate {key!r} must begin with the name of a rate: 'partner:{{account}}'.")

    def declare(function: F) -> F:
        if not callable(function) or hasattr(function, "enqueue"):
            raise TypeError(f"@rate({key!r}) stands below @task, not above it.")
        limit_starts(function, key, option="rate")
        _declared[f"{function.__module__}.{function.__qualname__}"] = key
        return function

    return declare


def declared_keys() -> Iterator[tuple[str, str]]:
    """Yield the key, as it is declared, and the path of each function with a rate that was imported."""
    for path, key in sorted(_declared.items()):
        yield key, path


def charge(key: str, cost: int) -> None:
    """Count ``cost`` more for a rate, known only after a call, such as the tokens of an answer; fewer if negative.

    ``key``
        The name of a rate, or a name with what follows its colon, as ``rate()`` formats it.

    Any thread that may use the database calls it. Inside a transaction of the caller it counts after the commit. A
    charge counts for at most an hour. Raises ValueError for a rate that is not declared, and TypeError.
    """
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise TypeError(f"cost must be an integer, not {cost!r}.")
    found = rate_of(key)
    if found is None:
        raise ValueError(f"NOTIFICATIONS['RATES'] declares no rate {name_of(key)!r}.")
    from notifications.contrib.rates import tokens

    tokens.charge(found, key, cost)
