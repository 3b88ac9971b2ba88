"""How checks are asked, and what they find: the one list that ``doctor``, probes and alerts read.

Checks yield messages as Django's system checks do, and are a list of their own. Of Django's, ``migrate`` and ``test``
run those of databases, and every command those with the tag of an app: none may wait for a job. Django runs them in any
order, measures none, and ends at the first that the database fails.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from django.core.checks import ERROR, WARNING, CheckMessage, Error, Info
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.utils import translation

from notifications import times
from notifications.db.clock import database_now
from notifications.db.deadlines import limit_answers
from notifications.db.transactions import connection
from notifications.db.unavailable import is_query_error
from notifications.extension import Check, hooks
from notifications.jobs.claiming.backlog import QueueDepths, queue_depths

logger = logging.getLogger("notifications")

Find = TypeVar("Find", bound=Callable[..., Iterable[CheckMessage]])

#: System checks that only warn, at which doctor fails: what they name does not run, or not in time.
FAILING_WARNINGS = {
    f"notifications.W{number:03}" for number in (9, 11, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28)
}


class Examination:
    """One round in which checks are asked, with what several of them read.

    ``is_for_alerts``
        Whether it is one of many, by which alerts begin and end.
    ``timeout``
        Seconds that a job may take that does nothing.
    ``page``
        An origin whose pages are to open a WebSocket, or None.
    """

    def __init__(
        self, *, is_for_alerts: bool = False, timeout: float = 10.0, page: str | None = None
    ) -> None:
        self.is_for_alerts, self.timeout, self.page = is_for_alerts, timeout, page

    @staticmethod
    def alert_checks() -> dict[str, Check]:
        """Return the checks of alerts, which have a label, by their ids."""
        found = (*_import_checks(MODULE_OF_ALERTS), *hooks.read_checks())
        return {check.id: check for check in found if check.label}

    @cached_property
    def now(self) -> datetime:
        """The database's time."""
        return database_now()

    @cached_property
    def depths(self) -> QueueDepths:
        """What waits in each queue."""
        return queue_depths()


class CoreCheck(Check):
    """A check of the core.

    ``ok``
        What is said if nothing is found; without it there is no line.
    ``tag``
        ``database`` for what the other checks need: after an error they are left out. ``live`` is for probes.
    """

    ok = ""
    tag = "processes"


class FindingLine(NamedTuple):
    """A finding as ``doctor`` prints it: ``state`` is ok, warning or error; ``figures`` are for ``--json``."""

    check: str
    state: str
    message: str
    remedy: str
    figures: dict[str, Any]
    #: Milliseconds since the line before it.
    ms: float
    subject: str = ""
    since: str | None = None


#: The modules of this folder with checks, in the order of the output, and the only one whose checks have labels.
MODULES, MODULE_OF_ALERTS = ("configuration", "database", "jobs", "processes"), "jobs"
#: The checks of each module.
CHECKS: dict[str, list[Check]] = defaultdict(list)


def register(tag: str, id: str, ok: str = "") -> Callable[[Find], Find]:
    """Register a function as a check of the core: its method ``find()``."""

    def add(find: Find) -> Find:
        check = CoreCheck()
        check.tag, check.id, check.ok = tag, id, ok
        check.find = find  # type: ignore[method-assign]
        add_check(check, find.__module__)
        return find

    return add


def add_check(check: Check, module: str) -> None:
    """Add a check of a module of the core."""
    CHECKS[module.rpartition(".")[2]].append(check)


def list_checks() -> list[Check]:
    """Return the checks of the core and of extensions."""
    return [*_import_checks(*MODULES), *hooks.read_checks()]


def _import_checks(*names: str) -> Iterator[Check]:
    for name in names:
        import_module(f"{__package__}.{name}")
        yield from CHECKS[name]


def ask(check: Check, examination: Examination) -> Iterator[CheckMessage]:
    """Yield what a check finds: that it is ok if that is nothing, and an error that it raises as the last one.

    That PostgreSQL does not answer in time is such an error: see ``db/deadlines.py``.
    """
    found = []
    try:
        with limit_answers():
            for message in getattr(check, "of", check).find(examination):
                found.append(message)
                if not message.is_silenced():
                    yield message
    except Exception as exc:  # of the project, whose modules a check imports, or of an extension
        if not is_query_error(exc):
            logger.exception("Could not ask a check: %s", check.id)
            hint = "Correct what has raised it. The log has the traceback."
            yield Error(f"The check failed: {type(exc).__name__}: {explain(exc)}", hint=hint)
            return
        with suppress(DatabaseError, ImproperlyConfigured):
            connection().close_if_unusable_or_obsolete()  # the next check goes on with another one
        problem = "The database raised an error"
        remedy = "Check DATABASES, the log of the database server, and free space on its disk."
        if not isinstance(exc, DatabaseError):
            problem = "This process lacks a resource"
            remedy = (
                "Check the limits of processes, threads, memory and open files, and free space on the disk."
            )
        yield Error(f"{problem}: {explain(exc)}.", hint=remedy)
        return
    ok = getattr(check, "ok", "")
    if ok and all(message.is_silenced() for message in found):
        yield Info(ok)


def explain(exc: BaseException) -> str:
    """Return what an exception says, in one line of at most 300 characters, or else the name of its class."""
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def make_line(check: Check, message: CheckMessage, seconds: float) -> FindingLine:
    is_error = message.level >= ERROR or message.id in FAILING_WARNINGS
    state = "error" if is_error else "warning" if message.level >= WARNING else "ok"
    name = (message.id or check.id).removeprefix("notifications.")
    text, remedy, figures = message.msg, message.hint or "", message.obj or {}
    subject, since = getattr(message, "subject", ""), getattr(message, "since", None)
    if not text:
        with translation.override("en"):  # as all output of commands
            text = check.describe(figures)
    if subject:
        text = f"{subject}: {text}"
    if state != "ok" and not remedy:
        remedy = check.remedy or f"See {message.id} in the reference of system checks."
    ms = round(seconds * 1000, 1)
    return FindingLine(name, state, text, remedy, figures, ms, subject, times.format_time(since))
