"""The topics of schedules: their owners and groups are notified when a problem begins, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import template_localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import paths, validators
from notifications.contrib.schedules.declarations import ScheduleDeclaration, declared_schedules
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.users import find_notified_users
from notifications.db.transactions import database
from notifications.extension import Topic

Problem = Schedule.Problem
PREFIX = "schedule:"


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
    url = paths.job_page(row.problem_job) if declaration.owner and row.problem_job else ""
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
    return text % {"count": count, "when": date_format(template_localtime(due), "DATETIME_FORMAT")}
