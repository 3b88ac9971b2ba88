"""Keys by which extensions limit how often jobs start: a template below ``@task``, and the key of each job.

The key of a job is stored with it. Whether its starts have a limit is decided by the code that claims it: a task
without a template has none, whatever is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from notifications.jobs.declaring.policies import storable_key
from notifications.jobs.declaring.templates import format_template, refuse_unknown_names

#: The attribute of functions with a limit: what errors call it, and the template of its key.
_ATTRIBUTE = "_notifications_limit_key"


def limit_starts(function: Callable[..., Any], template: str, *, option: str) -> None:
    """Have an extension limit by a key how often jobs of the task with this function start.

    ``template``
        The key. It may name arguments of the task, and ``{owner}``: ``"partner:{account}"``.
    ``option``
        What errors call it: ``"rate"``.

    Call it when the module of the task is imported. Raises ``ValueError`` if ``template`` names something else, and
    ``TypeError`` if the function has a key already.
    """
    refuse_unknown_names(option, template, function, "owner")
    if hasattr(function, _ATTRIBUTE):
        raise TypeError(f"The task {function.__name__} has two limits of its starts. Leave one of them.")
    setattr(function, _ATTRIBUTE, (option, template))


def has_limit_key(function: Callable[..., Any]) -> bool:
    """Return whether the jobs of the task with this function have a key."""
    return hasattr(function, _ATTRIBUTE)


def limit_key(
    function: Callable[..., Any],
    takes_context: bool,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    owner: Any,
) -> str:
    """Return the key of a call of the task with this function, "" without one.

    If the template cannot be formatted with the arguments, it is what stands before its colon.
    """
    option, template = getattr(function, _ATTRIBUTE, ("", ""))
    if "{" not in template:
        return str(template)
    owner = "" if owner is None else str(owner)
    try:
        return storable_key(
            format_template(option, template, function, takes_context, args, kwargs, owner=owner)
        )
    except (TypeError, ValueError):
        return str(template.partition(":")[0])
