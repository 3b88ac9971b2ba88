"""``manage.py notifications schedules``: list, run, pause and resume schedules."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from notifications.contrib.schedules import operating
from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.db import database
from notifications.management import ManagementCommand


class SchedulesCommand(ManagementCommand):
    help = "List, run, pause and resume schedules."
    examples = ("list", "run nightly-report", "pause nightly-report", "resume nightly-report")

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        inherited = [self.common_options()]
        verbs.add_parser("list", help="list schedules with their last and next runs", parents=inherited)
        for verb, help_text in (
            ("run", "enqueue the jobs of schedules now"),
            ("pause", "stop enqueueing the jobs of schedules"),
            ("resume", "enqueue the jobs of schedules again"),
        ):
            verbs.add_parser(verb, help=help_text, parents=inherited).add_argument(
                "names", nargs="+", metavar="NAME"
            )
        self.add_examples(verbs)
        for subparser in verbs.choices.values():
            subparser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        getattr(self, verb)(**options)

    def list(self, **options: Any) -> None:
        operating.insert_declared()
        for row in Schedule.objects.using(database()).order_by("name"):
            item = schedule_item(row)
            if options["json"]:
                self.stdout.write(json.dumps(item))
                continue
            last = item["last_run"]
            outcome = f"{last['due_at']} {last['state'] or last['outcome']}" if last else "never"
            self.stdout.write_line(
                f"{row.name:<24}  {item['state']:<12}  next {item['next_run'] or '-':<20}  last {outcome}"
                f"  | {row.timing} | {row.task_path}{f' | {row.title}' if row.title else ''}"
            )

    def run(self, names: Sequence[str], **options: Any) -> None:
        refused = []
        for name in names:
            try:
                tick = operating.run_now(name)
            except operating.ScheduleNotRun as exc:
                refused.append(str(exc))
            else:
                self.report(options, f"{name} enqueued as job {tick.job}", schedule=name, job=str(tick.job))
        if refused:
            raise CommandError("\n".join(refused))

    def pause(self, names: Sequence[str], **options: Any) -> None:
        self.change(names, operating.pause, "paused", **options)

    def resume(self, names: Sequence[str], **options: Any) -> None:
        self.change(names, operating.resume, "resumed", **options)

    def change(self, names: Sequence[str], function: Any, verb: str, **options: Any) -> None:
        operating.insert_declared()
        known = set(Schedule.objects.using(database()).filter(name__in=names).values_list("name", flat=True))
        changed = function(known)
        for name in dict.fromkeys(names):
            if name in known:
                text = f"{name} {verb}" if name in changed else f"{name} was {verb} already"
                self.report(options, text, schedule=name, changed=name in changed)
        if unknown := [name for name in dict.fromkeys(names) if name not in known]:
            raise CommandError(
                f"There is no schedule {', '.join(unknown)}. `manage.py notifications schedules list` shows all."
            )


def schedule_item(row: Schedule) -> dict[str, Any]:
    """Return a schedule as JSON, with its last tick."""
    is_known = row.is_stored or row.name in declared_schedules()
    state = "not declared" if not is_known else "paused" if row.paused_at else row.problem or "active"
    of_stored = {"title": row.title, "owner": row.user_id and str(row.user_id)} if row.is_stored else {}
    tick = Tick.objects.using(database()).filter(schedule=row.pk).order_by("-due_at").first()
    return {
        "name": row.name,
        **of_stored,
        "state": state,
        "timing": row.timing,
        "task": row.task_path,
        "next_run": rfc3339(row.next_tick) if is_known and not row.paused_at else None,
        "paused_at": rfc3339(row.paused_at),
        "problem_since": rfc3339(row.problem_since),
        "last_run": tick
        and {
            "due_at": rfc3339(tick.due_at),
            "outcome": tick.outcome,
            "count": tick.count,
            "by_hand": tick.is_manual,
            "job": tick.job and str(tick.job),
            "state": tick.job_state,
            "detail": tick.detail,
        },
    }


def rfc3339(value: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, without fractions of a second."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None
