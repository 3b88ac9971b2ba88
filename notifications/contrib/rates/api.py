"""What tasks and other code use of rates. No model is imported: it may be imported before the models are ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from notifications.contrib.rates.declarations import bucket_of, name_of, rate_of
from notifications.extension import require
from notifications.jobs.declaring.holding import hold
from notifications.jobs.declaring.policies import storable_key
from notifications.jobs.declaring.templates import format_template, refuse_unknown_names

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "_notifications_rate"
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
        refuse_unknown_names("rate", key, function, "owner")
        setattr(function, _ATTRIBUTE, key)
        _declared[f"{function.__module__}.{function.__qualname__}"] = key

        hold(function, lambda job: bucket_of(key_of(function, job)))
        return function

    return declare


def key_of(function: Callable[..., Any], job: Any) -> str:
    """Return the key of a job of a task with a rate. One that cannot be made is the name of the rate alone."""
    template: str = getattr(function, _ATTRIBUTE, "")
    if "{" not in template:
        return template
    from notifications.jobs import find_task  # it imports models

    owner = "" if job.user_id is None else str(job.user_id)
    try:
        takes_context = find_task(job.task_path).takes_context
        args, kwargs = json.loads(job.args), json.loads(job.kwargs)
        return storable_key(
            format_template("rate", template, function, takes_context, args, kwargs, owner=owner)
        )
    except (ImportError, TypeError, ValueError):
        return name_of(template)


def key_of_job(job: Any) -> str:
    """Return the key of a job whose task has a rate, "" if that is not known in this process."""
    from notifications.jobs import find_task  # it imports models

    try:
        function = find_task(job.task_path).func
    except ImportError:
        return ""
    return key_of(function, job) if hasattr(function, _ATTRIBUTE) else ""


def declared_keys() -> Iterator[tuple[str, str]]:
    """Yield the key, as it is declared, and the path of each function with a rate that was imported."""
    for path, key in sorted(_declared.items()):
        yield key, path


def charge(key: str, cost: int) -> None:
    """Count ``cost`` more for a rate, known only after a call, such as the tokens of an answer; fewer if negative.

    ``key``
        The name of a rate, or a name with what follows its colon, as ``rate()`` formats it.

    Any thread that may use the database calls it. A transaction of the caller includes it, and holds the limit until
    its end: call it outside of one. Raises ValueError for a rate that is not declared, and TypeError.
    """
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise TypeError(f"cost must be an integer, not {cost!r}.")
    found = rate_of(key)
    if found is None:
        raise ValueError(f"NOTIFICATIONS['RATES'] declares no rate {name_of(key)!r}.")
    from notifications.contrib.rates import tokens

    tokens.charge(found, key, cost)
