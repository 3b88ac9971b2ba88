"""What is said of problems of schedules: the alert that ticks were missed, for operators, and the topics of schedules.

The owner or the group of a schedule is notified of its topic, when a problem begins and when it is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import times, validators
from notifications.contrib.schedules.declarations import ScheduleDeclaration, declared_schedules
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.users import find_notified_users
from notifications.db import database
from notifications.extension import AlertKind, Topic
from notifications.inbox import job_path

Problem = Schedule.Problem
PREFIX = "schedule:"
#: The recent ticks that are read at most, the latest.
MAX_TICKS_READ = 1_000
#: Seconds after which a missed tick is over.
WINDOW_SECONDS = 300.0
#: Seconds after which a tick that is due is overdue. A round records it within a second or two.
OVERDUE_SECONDS = 60.0
#: When this process has imported this module (monotonic).
_imported_at = time.monotonic()


def find_schedule_topics(announced: Collection[str]) -> Iterator[Topic]:
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


class ScheduleOverdue(AlertKind):
    """A tick of a schedule has long been due, and is neither enqueued nor recorded as missed."""

    kind, label = "overdue", gettext_lazy("Schedule overdue")
    model, model_label = "notifications_schedules.Schedule", gettext_lazy("Schedule")

    def find(self, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        # The first rounds after all processes were away record what was due meanwhile.
        if time.monotonic() - _imported_at >= OVERDUE_SECONDS:
            for row in find_overdue(now):
                assert row.next_tick is not None
                yield row.name, {"due": row.next_tick.isoformat()}

    def describe(self, facts: dict[str, Any]) -> str:
        due = datetime.fromisoformat(facts["due"]).astimezone(UTC)
        return _("It was due at %(due)s UTC and is not run: code that prepares its job may not return.") % {
            "due": f"{due:%Y-%m-%d %H:%M}"
        }


class ScheduleMissed(AlertKind):
    """Ticks of a schedule were recently missed, or could not be enqueued, and it has not run since."""

    kind, label = "schedule", gettext_lazy("Schedule missed")
    model, model_label = "notifications_schedules.Schedule", gettext_lazy("Schedule")

    def find(self, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = Tick.objects.using(database()).filter(
            recorded_at__gte=now - timedelta(seconds=WINDOW_SECONDS),
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
                yield (
                    name,
                    {
                        "count": sum(tick.count for tick in ticks),
                        "last": max(tick.due_at for tick in ticks).isoformat(),
                        "detail": ticks[0].detail,
                    },
                )

    def describe(self, facts: dict[str, Any]) -> str:
        last = datetime.fromisoformat(facts["last"]).astimezone(UTC)
        detail = ngettext(
            "%(count)d run was missed, the last one due at %(last)s UTC.",
            "%(count)d runs were missed, the last one due at %(last)s UTC.",
            facts["count"],
        ) % {"count": facts["count"], "last": f"{last:%Y-%m-%d %H:%M}"}
        return f"{detail} {facts['detail']}".strip()
