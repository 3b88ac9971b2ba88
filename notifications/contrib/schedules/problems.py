"""What can be wrong with schedules: what ``doctor`` and alerts find, for operators, and the topics of schedules.

The owner or the group of a schedule is notified of its topic, when a problem begins and when it is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.core.checks import CheckMessage, Info, Warning
from django.db.models import Max, OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import times, validators
from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.offers import read_settings
from notifications.contrib.schedules.stored import PREFIX as STORED_PREFIX
from notifications.contrib.schedules.stored import stored_schedules
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
#: Schedules that are overdue, or cannot be run, that one examination names.
MAX_SCHEDULES_NAMED = 100
#: Characters of the title of a schedule in that of a notification.
MAX_NAME_IN_TITLE = 150
#: When this process has imported this module (monotonic).
_imported_at = time.monotonic()


def _describe(row: Schedule, before: str, *, has_owner: bool) -> dict[str, Any]:
    facts = json.loads(row.problem_facts)
    title, body, level = {
        Problem.FAILED: (_("%(schedule)s has failed"), _describe_failure(facts), "error"),
        Problem.GIVEN_UP: (_("%(schedule)s is paused"), _describe_giving_up(facts), "error"),
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
    # The page of a job is for its owner, and that of schedules, if it is open, for owners of stored ones.
    url = job_path(row.problem_job) if has_owner and row.problem_job else ""
    if row.problem == Problem.GIVEN_UP and read_settings().offers is not None:
        url = reverse("notifications:schedules")
    return {
        "title": title % {"schedule": validators.shortened(str(row), MAX_NAME_IN_TITLE)},
        "body": validators.shortened(body, validators.MAX_BODY_LENGTH),
        "level": level,
        "category": "schedule",
        "url": url,
    }


def _describe_failure(facts: dict[str, Any]) -> str:
    return facts.get("detail") or _("Its job could not be enqueued.")


def _describe_giving_up(facts: dict[str, Any]) -> str:
    text = ngettext(
        "Its last run has failed. It runs again when it is resumed.",
        "Its last %(count)d runs have failed. It runs again when it is resumed.",
        facts.get("count", 1),
    )
    return text % {"count": facts.get("count", 1)}


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
    """Return the schedules with a tick that has long been due and is not recorded, the oldest first.

    No process runs rounds, or code of the project that prepares their jobs does not return.
    """
    due = Schedule.objects.using(database()).filter(
        paused_at__isnull=True, next_tick__lt=now - timedelta(seconds=OVERDUE_SECONDS)
    )
    found = [
        due.filter(name__in=declared_schedules(), options__isnull=True),
        due.filter(options__isnull=False),
    ]
    return [row for rows in found for row in rows.order_by("next_tick", "name")[:MAX_SCHEDULES_NAMED]]


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
        since = examination.now - timedelta(seconds=WINDOW_SECONDS)
        recent = Tick.objects.using(database()).filter(recorded_at__gte=since)
        rows = recent.filter(outcome__in=(Tick.Outcome.MISSED, Tick.Outcome.FAILED))
        missed: dict[str, list[Tick]] = {}
        for tick in rows.order_by("-recorded_at")[:MAX_TICKS_READ]:
            missed.setdefault(tick.schedule_id, []).append(tick)
        # One round records missed ticks and enqueues the newest. It has run if a later one has enqueued.
        enqueued = recent.filter(outcome=Tick.Outcome.ENQUEUED, schedule_id__in=missed)
        last_enqueued = dict(enqueued.values_list("schedule_id").annotate(Max("recorded_at")))
        for name, ticks in missed.items():
            if last_enqueued.get(name, since) <= ticks[0].recorded_at:
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


def read_newest_ticks(names: Collection[str]) -> dict[str, Tick]:
    """Return the newest tick of each of these schedules that has one, by the name of the schedule."""
    newest = Tick.objects.filter(schedule=OuterRef("pk")).order_by("-due_at").values("pk")[:1]
    rows = Schedule.objects.using(database()).filter(name__in=names).annotate(newest=Subquery(newest))
    ids = [id for id in rows.values_list("newest", flat=True) if id]
    return {tick.schedule_id: tick for tick in Tick.objects.using(database()).filter(pk__in=ids)}


class UnusableCheck(Check):
    """The job of a stored schedule cannot be enqueued: its task is gone, or does not take its arguments any more."""

    id, label = "unusable", gettext_lazy("Schedule unusable")
    model = "notifications_schedules.Schedule"
    remedy = "Change the schedule in the admin or by update_schedule(), and resume it; or delete it."

    def find(self, examination: Any) -> Iterator[Finding]:
        rows = stored_schedules().filter(
            problem__in=(Problem.FAILED, Problem.GIVEN_UP), problem_job__isnull=True
        )
        found = {row.name: row for row in rows.order_by("problem_since", "name")[:MAX_SCHEDULES_NAMED]}
        newest = read_newest_ticks(found)
        for name, row in found.items():
            detail = newest[name].detail if name in newest else ""
            facts = {"title": row.title, "task": row.task_path, "detail": detail}
            yield Finding(name, facts, since=row.problem_since)

    def describe(self, facts: dict[str, Any]) -> str:
        return _("“%(title)s” cannot enqueue %(task)s. %(detail)s") % facts


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

    def topics(self, announced: Mapping[str, Collection[str]]) -> Iterator[Topic]:
        """Yield the schedules that have a problem, or whose readers were last notified of one.

        Of stored ones, of which there may be thousands, those whose owner is to be notified.
        """
        names = {key.removeprefix(PREFIX) for key in announced if key.startswith(PREFIX)}
        declared = declared_schedules()
        gone = {name for name in names if name.startswith(STORED_PREFIX)}
        is_named = Q(name__in={*declared, *gone})
        is_wrong = ~Q(problem="") & Q(options__isnull=False, user__isnull=False)
        for row in Schedule.objects.using(database()).filter(is_named | is_wrong):
            gone.discard(row.name)
            if row.is_stored:
                if row.problem not in announced.get(f"{PREFIX}{row.name}", ("",)):
                    yield _make_topic(row, partial(list, [row.user_id]), has_owner=True)
            elif row.problem or row.name in names:
                declaration = declared[row.name]
                find_readers = partial(find_notified_users, declaration)
                yield _make_topic(row, find_readers, has_owner=bool(declaration.owner))
        for name in gone:  # stored ones that were deleted
            yield _make_topic(Schedule(name=name), list, has_owner=False)


def _make_topic(row: Schedule, read_readers: Callable[[], list[Any]], *, has_owner: bool) -> Topic:
    describe = partial(_describe, row, has_owner=has_owner)
    return Topic(key=f"{PREFIX}{row.name}", state=row.problem, read_readers=read_readers, describe=describe)


def make_checks() -> list[Check]:
    return [OverdueCheck(), MissedCheck(), UnusableCheck(), ScheduleCheck()]
