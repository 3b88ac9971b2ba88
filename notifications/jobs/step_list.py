"""The timeline of a job's waits and of the steps that extensions store, as pages and commands show it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Case, When
from django.utils.formats import number_format
from django.utils.translation import gettext

from notifications import times
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.extension.pages import JobStep
from notifications.jobs.redaction import describe_value
from notifications.jobs.results import policy_at
from notifications.models import Attempt, Job, Wait

#: Steps of a job that are shown, and characters of the results among which a shown part is looked for.
MAX_STEPS_SHOWN, MAX_RESULT_CHARS = 200, 20_000
#: The symbols of steps, by their state.
ICONS = {"returned": "success", "running": "clock", "failed": "error", "lost": "warning"}
#: The symbols of waits that have ended without what they waited for.
WITHOUT_ANSWER: Mapping[Any, str] = {Wait.How.EXPIRED: "warning", Wait.How.CANCELLED: "error"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStep:
    """A step of a job, or a wait.

    ``state``
        That of a ``JobStep``; of a wait ``"returned"``.
    ``took``
        None while a wait is open or a call runs, or if its end is not known.
    ``result``
        As text without secrets, its size if it is large, None if it was not read. Of a wait how it ended, and with
        what.
    ``end``
        Who has ended a wait, as its reader is told, "" if nobody has or it is not shown to them.
    ``due_at``
        When an open wait ends by itself, None if never.
    ``page``
        The path of the page of a wait; without results "" if it is not shown to the owner, with them if it has ended.
    ``icon``
        The symbol before it. One of a wait that has ended without what it waited for is no tick.
    ``is_wait``
        It is no call of the task, but something that the job waits for.
    """

    name: str
    attempt: int
    started_at: datetime
    took: timedelta | None
    result: str | None
    end: str = ""
    due_at: datetime | None = None
    page: str = ""
    icon: str = "success"
    is_wait: bool = False
    state: str = "returned"

    @property
    def is_open(self) -> bool:
        """Whether the wait is open, or the call runs."""
        return self.took is None and self.state != "lost"

    @property
    def took_label(self) -> str:
        """How long the call or the wait took, or until when it lasts, in the active language."""
        if self.took is None and not self.is_wait:
            return gettext("Running") if self.is_open else ""
        if self.took is None:
            if self.due_at is None:
                return gettext("Waiting")
            return gettext("Waiting until {time}").format(time=times.format_short(self.due_at))
        return describe_duration(self.took)


def describe_duration(took: timedelta) -> str:
    """Return how long something took on one line, in the active language: "0.4 s", "3 min"."""
    return times.describe_duration(max(took.total_seconds(), 0.0)).replace(" ", "\xa0")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepList:
    """The first steps and waits of a job in the order in which they ended, and the number of all."""

    first: list[StoredStep]
    count: int
    has_waits: bool = False

    @property
    def heading(self) -> str:
        """What stands above the list, with the number of steps if not all are shown."""
        if len(self.first) == self.count:
            return gettext("Steps")
        counts = {
            "shown": number_format(len(self.first)),
            "count": number_format(self.count, force_grouping=True),
        }
        return gettext("Steps: the first {shown} of {count}").format(**counts)


def read_steps(job: Job, *, with_results: bool, reader: Any = None, with_unfinished: bool = True) -> StepList:
    """Return the first ``MAX_STEPS_SHOWN`` steps and waits of a job. Without ``with_results`` no result is read.

    Without ``with_unfinished`` no calls are read that have stored no result.

    ``reader``
        The user (key) who reads them, None for the output of a command.
    """
    if not job.started_at:
        return StepList(first=[], count=0)
    first: list[StoredStep] = []
    count = 0
    redacted: frozenset[str] | None = None
    for hook in hooks.steps_of:
        of_extension, number = hook(
            job, MAX_STEPS_SHOWN, with_results=with_results, with_unfinished=with_unfinished
        )
        if redacted is None and with_results and of_extension:
            redacted = _read_redacted(job)
        first += [_describe_step(step, redacted or frozenset()) for step in of_extension]
        count += number
    waits = Wait.objects.using(database()).filter(job=job.pk)
    if not with_results:
        waits = waits.defer("value")
    # The open ones are found among any number, as calls that run are.
    is_open = Case(When(ended_at=None, then=0), default=1)
    found_waits = list(waits.order_by(is_open, "id")[:MAX_STEPS_SHOWN])
    if redacted is None:
        redacted = _read_redacted(job) if with_results and found_waits else frozenset()
    ends = _describe_ends(found_waits, reader)
    first += [
        _describe_wait(wait, redacted, ends.get(wait.id, ""), job.user_id, with_results=with_results)
        for wait in found_waits
    ]
    count += len(found_waits) if len(found_waits) < MAX_STEPS_SHOWN else waits.count()
    # Open ones last. What has failed or goes on is looked for among many that have returned.
    first.sort(key=lambda step: (step.took is None, step.started_at + (step.took or timedelta())))
    is_telling = [step.is_open or step.state != "returned" for step in first]
    left = len(first) - MAX_STEPS_SHOWN
    for place in reversed(range(len(first))):
        if left > 0 and not is_telling[place]:
            del first[place]
            left -= 1
    return StepList(first=first[max(left, 0) :], count=count, has_waits=bool(found_waits))


def _read_redacted(job: Job) -> frozenset[str]:
    """Return the names whose values are hidden in what a job has stored. The module of its task is imported."""
    return frozenset(policy_at(job.task_path).redact)


def _describe_step(step: JobStep, redacted: frozenset[str]) -> StoredStep:
    has_result = step.size is not None
    return StoredStep(
        name=step.name,
        attempt=step.attempt,
        started_at=step.started_at,
        took=step.took,
        result=_describe_json(step.name, step.text, step.size, redacted) if has_result else None,
        end={"failed": str(Attempt.Outcome("failed").label), "lost": gettext("Interrupted")}.get(
            step.state, ""
        ),
        icon=ICONS[step.state],
        state=step.state,
    )


def _describe_ends(waits: Sequence[Wait], reader: Any) -> dict[UUID, str]:
    """Return who has ended waits, by their ids, in at most one query for each of their kinds."""
    by_kind: Mapping[str, list[Wait]] = defaultdict(list)
    for wait in waits:
        if wait.ended_at is not None:
            by_kind[wait.kind].append(wait)
    found: dict[UUID, str] = {}
    for kind, ended in by_kind.items():
        found |= hooks.find_wait_kind(kind).describe_ends(ended, reader)
    return found


def _describe_wait(
    wait: Wait, redacted: frozenset[str], end: str, owner: Any, *, with_results: bool
) -> StoredStep:
    result, kind = None, hooks.find_wait_kind(wait.kind)
    is_shown = kind.is_shown_to(wait, owner)
    if with_results:
        result = str(kind.label or wait.kind) if wait.ended_at is None else end or str(wait.get_how_display())
        if wait.value is not None:
            size = len(wait.value)
            text = wait.value if size <= MAX_RESULT_CHARS else None
            result += ": " + _describe_json(wait.name, text, size, redacted)
    icon = "clock" if wait.ended_at is None else WITHOUT_ANSWER.get(wait.how, "success")
    took = wait.ended_at - wait.created_at if wait.ended_at else None
    # The owner may not be one of those who were asked. The page of one that has ended says who has answered.
    has_page = took is None if with_results else is_shown
    return StoredStep(
        name=wait.title or wait.name,
        attempt=wait.attempt,
        started_at=wait.created_at,
        took=took,
        result=result,
        end=end or (str(wait.get_how_display()) if wait.how in WITHOUT_ANSWER else "") if is_shown else "",
        due_at=wait.due_at,
        page=kind.page(wait.job, wait.id) if has_page else "",
        icon=icon,
        is_wait=True,
    )


def _describe_json(name: str, text: str | None, size: int | None, redacted: frozenset[str]) -> str:
    """Return what is stored under a name without secrets, or its size in characters if it was not read."""
    if text is None:
        return f"{size:,} characters of JSON"
    try:
        return describe_value(name, json.loads(text), redacted)
    except (ValueError, RecursionError):
        return "damaged: not JSON"
