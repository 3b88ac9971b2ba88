"""The result of one check of ``manage.py notifications doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import Error

from notifications.db.unavailable import is_query_error

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: ``state`` is ok, warning or error; ``figures`` are for ``--json``."""

    check: str
    state: str
    message: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def ms(seconds: float) -> float:
    """Return milliseconds, rounded for output."""
    return round(seconds * 1000, 1)


def run_check(check: Callable[[], Finding]) -> Finding:
    """Run a check; an error of the database is a finding too."""
    return next(run_checks(lambda: [check()]))


def run_checks(find: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a function finds; an error of the database is the last finding."""
    try:
        yield from find()
    except Exception as exc:
        if not is_query_error(exc):
            raise
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        if not isinstance(exc, Error):
            yield Finding(
                "resources",
                ERROR,
                f"This process lacks a resource: {reason}.",
                "Check the limits of processes, threads, memory and open files, and free space on the disk.",
            )
            return
        yield Finding(
            "database",
            ERROR,
            f"The database raised an error: {reason}.",
            "Check DATABASES, the log of the database server, and free space on its disk.",
        )
