"""How checks of ``notifications doctor`` are registered, and what they find.

They have the form of Django's system checks, and a list of their own. Of Django's, ``migrate`` and ``test`` run those
of databases, and every command those with the tag of an app: none may wait for a job. Django runs them in any order,
measures none, and ends at the first that the database fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from django.core.checks import ERROR, WARNING, CheckMessage, Error, Info
from django.db import Error as DatabaseError

from notifications.db.unavailable import is_query_error

Find = TypeVar("Find", bound=Callable[..., Iterable[CheckMessage]])

#: System checks that only warn, at which doctor fails: what they name does not run, or not in time.
FAILING_WARNINGS = {
    f"notifications.W{number:03}" for number in (9, 10, 11, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28)
}


class Finding(NamedTuple):
    """What a check has found: ``state`` is ok, warning or error; ``figures`` are for ``--json``."""

    check: str
    state: str
    message: str
    remedy: str
    figures: dict[str, Any]
    #: Milliseconds since the finding before it.
    ms: float


class Check(NamedTuple):
    """What ``register()`` was called with."""

    tag: str
    name: str
    ok: str
    find: Callable[..., Iterable[CheckMessage]]


#: In the order of the output.
CHECKS: list[Check] = []


def register(tag: str, name: str, ok: str = "") -> Callable[[Find], Find]:
    """Register a function as a check of ``doctor``, which returns messages of ``django.core.checks``.

    It is called on the main thread, outside of any transaction, with keywords: ``timeout``, the seconds that a job may
    take, and ``page``, an origin or None. An error of the database is one more message. Each message is a line: an
    ``Info`` is ok, ``hint`` is the remedy, and ``obj`` a dict of numbers, for ``--json``.

    ``tag``
        ``database`` for what the other checks need: after an error they do not run. Else ``processes``. The one with
        ``live`` is that of ``--live``.
    ``name``
        Begins the lines of its messages that have no ``id``.
    ``ok``
        The sentence if it returns no message; without one there is no line.
    """

    def add(find: Find) -> Find:
        CHECKS.append(Check(tag, name, ok, find))
        return find

    return add


def run(check: Check, **options: Any) -> Iterator[CheckMessage]:
    """Yield the messages of a check: that it is ok if it has none, and an error of the database as the last one."""
    found = []
    try:
        for message in check.find(**options):
            found.append(message)
            if not message.is_silenced():
                yield message
    except Exception as exc:
        if not is_query_error(exc):
            raise
        problem = "The database raised an error"
        remedy = "Check DATABASES, the log of the database server, and free space on its disk."
        if not isinstance(exc, DatabaseError):
            problem = "This process lacks a resource"
            remedy = (
                "Check the limits of processes, threads, memory and open files, and free space on the disk."
            )
        yield Error(f"{problem}: {explain(exc)}.", hint=remedy)
        return
    if check.ok and all(message.is_silenced() for message in found):
        yield Info(check.ok)


def explain(exc: BaseException) -> str:
    """Return what an exception says, in one line of at most 300 characters, or else the name of its class."""
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def make_finding(check: Check, message: CheckMessage, seconds: float) -> Finding:
    is_error = message.level >= ERROR or message.id in FAILING_WARNINGS
    state = "error" if is_error else "warning" if message.level >= WARNING else "ok"
    name = (message.id or check.name).removeprefix("notifications.")
    remedy = message.hint or ("" if state == "ok" else f"See {message.id} in the reference of system checks.")
    return Finding(name, state, message.msg, remedy, message.obj or {}, round(seconds * 1000, 1))
