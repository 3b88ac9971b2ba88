"""What can be wrong with schedules: what ``doctor`` and alerts find, for operators, and the topics of schedules.

The owner or the group of a schedule is notified of its topic, when a problem begins and when it is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.core.checks import CheckMessage, Info, Warning
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import times, validators
from notifications.contrib.schedules.declarations import ScheduleDeclaration, declared_schedules
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.users import find_notified_users, find_problem
from notifications.db import database, is_lease_valid
from notifications.extension import Check, Finding, Topic
from notifications.inbox import job_path
from notifications.models import Worker

Problem = Schedule.Problem
PREFIX = "schedule:"
#: The recent ticks that are read at most, the latest.
MAX_TICKS_READ = 1_000
#: Seconds after which a missed tick is over.
WINDOW_SECONDS = 300.0
#: Seconds after which a tick that is due is overdue. A round records it within a second or two.
OVERDUE_SECONDS = 60.0
#: Workers that a remedy names at most.
MAX_WORKERS_NAMED = 10
#: When this process has imported this module (monotonic).
_imported_at = time.monotonic()


def _describe(row: Schedule, declaration: ScheduleDeclaration, before: str) -> dict[str, Any]:
    facts = json.loads(row.problem_facts)
    title, body, level = {
        Problem.FAILED: (_("%(schedule)s has failed"), _describe_failure(facts), "error"),
        Problem.MISSED: (_("%(schedule)s was not run"), _describe_missed(facts), "warning"),
        Problem.SKIPPED: (
            _("%(schedule)s is always skipped"),
            _("It is due while its previous run is still active, each time."),
            "warning",
        ),
        "": (
            _("%(schedule)s runs again"),
            _("It is run when it is due.") if before == Problem.SKIPPED else _("The last run has succeeded."),
            "success",
        ),
    }[row.problem]
    # The page of a job is for its owner.
    url = job_path(row.problem_job) if declaration.owner and row.problem_job else ""
    return {
        "title": title % {"schedule": row.name},
        "body": validators.shortened(body, validators.MAX_BODY_LENGTH),
        "level": level,
        "category": "schedule",
        "url": url,
    }


def _describe_failure(facts: dict[str, Any]) -> str:
    return facts.get("detail") or _("Its job could not be enqueued.")


def _describe_missed(facts: dict[str, Any]) -> str:
    if "due" not in facts:
        return ""
    count, due = facts["count"], datetime.fromisoformat(facts["due"])
    text = ngettext(
        "%(count)d run was missed, due %(when)s.",
        "%(count)d runs were missed, the last one due %(when)s.",
        count,
    )
    return text % {"count": count, "when": times.format_exact(due)}


def find_overdue(now: datetime) -> list[Schedule]:
    """Return the declared schedules with a tick that has long been due and is not recorded, the oldest first.

    No process runs rounds, or code of the project that prepares their jobs does not return.
    """
    rows = Schedule.objects.using(database()).filter(
        name__in=declared_schedules(), paused_at=None, next_tick__lt=now - timedelta(seconds=OVERDUE_SECONDS)
    )
    return list(rows.order_by("next_tick", "name"))


class OverdueCheck(Check):
    """A tick of a schedule has long been due, and is neither enqueued nor recorded as missed."""

    id, label = "overdue", gettext_lazy("Schedule overdue")
    model = "notifications_schedules.Schedule"

    def find(self, examination: Any) -> Iterator[Finding]:
        # The first rounds after all processes were away record what was due meanwhile.
        if examination.is_for_alerts and time.monotonic() - _imported_at < OVERDUE_SECONDS:
            return
        rows = find_overdue(examination.now)
        hint = _remedy(examination.now) if rows else ""
        for row in rows:
            assert row.next_tick is not None
            facts = {"due": row.next_tick.isoformat()}
            yield Finding(row.name, facts, since=row.next_tick, hint=hint)

    def describe(self, facts: dict[str, Any]) -> str:
        due = datetime.fromisoformat(facts["due"]).astimezone(UTC)
        return _("It was due at %(due)s UTC and is not run: code that prepares its job may not return.") % {
            "due": f"{due:%Y-%m-%d %H:%M}"
        }


def _remedy(now: datetime) -> str:
    live = Worker.objects.using(database()).filter(is_lease_valid(now), stuck_calls__gt=0)
    if stuck := list(live.order_by("id")[:MAX_WORKERS_NAMED]):
        return (
            f"Code of the project does not return in {', '.join(map(str, stuck))}: look for its stack in the log, "
            "after 'has not returned', and give that code a time limit."
        )
    return "Start a worker: manage.py run_jobs. If one is running, see its log."


class MissedCheck(Check):
    """Ticks of a schedule were recently missed, or could not be enqueued, and it has not run since."""

    id, label = "schedule", gettext_lazy("Schedule missed")
    model = "notifications_schedules.Schedule"
    remedy = "See the log of the workers. What was missed is not run later."

    def find(self, examination: Any) -> Iterator[Finding]:
        rows = Tick.objects.using(database()).filter(
            recorded_at__gte=examination.now - timedelta(seconds=WINDOW_SECONDS),
            outcome__in=(Tick.Outcome.MISSED, Tick.Outcome.FAILED),
        )
        missed: dict[str, list[Tick]] = {}
        for tick in rows.order_by("-recorded_at")[:MAX_TICKS_READ]:
            missed.setdefault(tick.schedule_id, []).append(tick)
        for name, ticks in missed.items():
            newest = Tick.objects.using(database()).filter(schedule_id=name).order_by("-due_at").first()
            # One round records missed ticks and enqueues the newest. It has run if a later one has enqueued.
            if not (
                newest
                and newest.outcome == Tick.Outcome.ENQUEUED
                and newest.recorded_at > ticks[0].recorded_at
            ):
                last = max(tick.due_at for tick in ticks).isoformat()
                facts = {"count": sum(tick.count for tick in ticks), "last": last, "detail": ticks[0].detail}
                yield Finding(name, facts, since=ticks[-1].recorded_at)

    def describe(self, facts: dict[str, Any]) -> str:
        last = datetime.fromisoformat(facts["last"]).astimezone(UTC)
        detail = ngettext(
            "%(count)d run was missed, the last one due at %(last)s UTC.",
            "%(count)d runs were missed, the last one due at %(last)s UTC.",
            facts["count"],
        ) % {"count": facts["count"], "last": f"{last:%Y-%m-%d %H:%M}"}
        return f"{detail} {facts['detail']}".strip()


class ScheduleCheck(Check):
    """The owner or the group of a schedule does not exist; and what they are notified of."""

    id = "schedules"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        if find_overdue(examination.now):  # looking an owner up may be what does not return
            return
        declared = declared_schedules()
        with translation.override("en"):
            problems = {name: found for name in declared if (found := find_problem(declared[name]))}
        for name, (problem, remedy) in problems.items():
            yield Warning(f"{name}: {problem}", hint=remedy)
        if not problems:
            yield Info(f"Declared: {len(declared)}." if declared else "None is declared.")

    def topics(self, announced: Collection[str]) -> Iterator[Topic]:
        """Yield the declared schedules that have a problem, or whose readers were last notified of one."""
        declared = declared_schedules()
        if not declared:
            return
        for row in Schedule.objects.using(database()).filter(name__in=declared):
            key = f"{PREFIX}{row.name}"
            if row.problem or key in announced:
                declaration = declared[row.name]
                yield Topic(
                    key=key,
                    state=row.problem,
                    read_readers=partial(find_notified_users, declaration),
                    describe=partial(_describe, row, declaration),
                )


def make_checks() -> list[Check]:
    return [OverdueCheck(), MissedCheck(), ScheduleCheck()]
