"""The alert of tasks of which many jobs fail for one cause: when it begins, and what it says until they are over."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import times
from notifications.contrib.operations.alerts.conditions import WINDOW_SECONDS, JobCheck, Limits, read_limits
from notifications.contrib.operations.incidents.texts import describe_cause, describe_over, format_since
from notifications.contrib.operations.models import AffectedUser, Alert, Incident
from notifications.contrib.operations.statistics import Figures, read_figures
from notifications.db import database, retrying_atomic
from notifications.extension import Finding, OwnTask, hooks

#: Open incidents that are read at most, the oldest, and the alerts that are found of them.
MAX_INCIDENTS, MAX_FOUND = 1_000, 100
#: The tasks of an alert that it names beside the first one.
MAX_TASKS_NAMED = 3
#: The users of several incidents that are counted at most.
MAX_USERS_COUNTED = 10_000


def mark_alerts(now: datetime) -> None:
    """Mark the open incidents of tasks of which more jobs failed within the last minutes than the limits allow.

    They stay alerts until they are over, so that one of which now a little more and now a little less fails is one
    alert. Jobs of tasks that fail when servers of others do, of which their owners are notified, do not count.
    """
    limits = read_limits()
    if limits.failure_rate is None:
        return
    window = timedelta(seconds=WINDOW_SECONDS)
    by_task: dict[str, Figures] = defaultdict(Figures)
    for figures in read_figures(window, now=now, by_task=True):
        if not hooks.own_tasks.get(figures.task, OwnTask()).fails_with_receivers:
            by_task[figures.task].succeeded += figures.succeeded
            by_task[figures.task].failed += figures.failed
    failing = [task for task, figures in by_task.items() if _is_over_limit(figures, limits)]
    if failing:
        recent = Incident.objects.using(database()).filter(over_at__isnull=True, failed_at__gte=now - window)
        new = recent.filter(task_path__in=failing, is_alert=False)
        retrying_atomic(lambda: new.update(is_alert=True))


def _is_over_limit(figures: Figures, limits: Limits) -> bool:
    rate = figures.failure_rate or 0.0
    assert limits.failure_rate is not None
    is_large = rate > limits.failure_rate or figures.failed > limits.max_failures
    return figures.failed >= limits.min_failures and is_large


@dataclass(slots=True)
class Cause:
    """Tasks that fail together: the first one, by which the alert is known, and since when the first job failed.

    ``tasks`` are those that have failed since, ``incidents`` the ones that are open.
    """

    subject: str
    since: datetime
    tasks: set[str] = field(default_factory=set)
    incidents: list[Incident] = field(default_factory=list)

    def add(self, incident: Incident) -> None:
        self.since = min(self.since, times.as_utc(incident.begun_at))
        self.tasks.add(incident.task_path)
        self.incidents.append(incident)


def _find_causes() -> list[Cause]:
    """Return the causes of the open incidents that are alerts.

    All errors of a task are one cause, as are those of several tasks in calls to one host. Two alerts that are open
    stay two. What an alert is about is that of its open incidents, so that an error that was over is found anew.
    """
    alerts = Alert.objects.using(database()).filter(kind=Failing.id, closed_at__isnull=True)
    of_task: dict[str, Cause] = {}
    of_error: dict[tuple[str, str], Cause] = {}
    of_incident: dict[int, Cause] = {}
    for alert in alerts.order_by("opened_at", "id")[:MAX_FOUND]:
        facts = json.loads(alert.facts)
        cause = Cause(facts["tasks"][0], datetime.fromisoformat(facts["since"]), set(facts["tasks"]))
        of_task[cause.subject] = cause  # also while that task is over: there is one open alert of a name
        of_incident |= dict.fromkeys(facts["incidents"], cause)
    rows = Incident.objects.using(database()).filter(over_at__isnull=True, is_alert=True)
    incidents = sorted(rows.order_by("id")[:MAX_INCIDENTS], key=lambda each: each.begun_at)
    found: dict[int, Cause] = {}
    for incident in sorted(incidents, key=lambda each: each.pk not in of_incident):
        error = (incident.host, incident.exception_class_path)
        cause = (
            of_incident.get(incident.pk)
            or of_task.get(incident.task_path)
            or (of_error.get(error) if incident.host else None)
            or Cause(incident.task_path, times.as_utc(incident.begun_at))
        )
        cause.add(incident)
        of_task.setdefault(incident.task_path, cause)
        of_error.setdefault(error, cause)
        found[id(cause)] = cause
    return list(found.values())


class Failing(JobCheck):
    """Many jobs of a task, or of several for the same cause, fail."""

    id, label, jobs = "failures", gettext_lazy("Many jobs fail"), {"state__exact": "failed"}

    def find(self, examination: Any) -> Iterator[Finding]:
        if read_limits().failure_rate is None:
            return
        for cause in islice(_find_causes(), MAX_FOUND):
            yield Finding(cause.subject, _read_facts(cause, examination.now), since=cause.since)

    def describe(self, facts: dict[str, Any]) -> str:
        now = times.now()
        users = ngettext("%(count)d person", "%(count)d people", facts["users"]) % {"count": facts["users"]}
        text = _("Failing since %(time)s: %(failed)d of %(ended)d, %(cause)s, %(people)s")
        text %= {
            "time": format_since(datetime.fromisoformat(facts["since"]), now),
            "failed": facts["failed"],
            "ended": facts["ended"],
            "cause": describe_cause(facts["exception"], facts["place"], facts["others"]),
            "people": users,
        }
        names = [name.rpartition(".")[2] for name in facts["tasks"][1:]]
        if len(names) > MAX_TASKS_NAMED:
            more = len(names) - MAX_TASKS_NAMED
            names[MAX_TASKS_NAMED:] = [_("%(count)d more") % {"count": more}]
        return _("%(text)s. Also: %(tasks)s") % {"text": text, "tasks": ", ".join(names)} if names else text

    def describe_end(self, facts: dict[str, Any]) -> str:
        """Return what the notification of the end of an alert says, from its last facts."""
        begun_at, failed_at = (datetime.fromisoformat(facts[name]) for name in ("since", "last"))
        return capfirst(describe_over(begun_at, failed_at, times.now()))


def _count_users(incidents: list[Incident]) -> int:
    if len(incidents) == 1:
        return incidents[0].users
    rows = AffectedUser.objects.using(database()).filter(incident__in=[row.pk for row in incidents])
    count: int = rows.order_by().values("user_id").distinct()[:MAX_USERS_COUNTED].count()
    return count


def _read_facts(cause: Cause, now: datetime) -> dict[str, Any]:
    """Return what the alert says: whom also what is over has affected, but as the error one that is not."""
    rows = Incident.objects.using(database()).filter(is_alert=True, failed_at__gte=cause.since)
    incidents = list(rows.filter(task_path__in=cause.tasks).order_by("begun_at", "id")[:MAX_INCIDENTS])
    tasks = sorted(cause.tasks - {cause.subject})
    task = None if tasks else cause.subject
    figures = read_figures(now - cause.since, now=now, task=task, by_task=True)
    counted = [row for row in figures if row.task in cause.tasks]
    failed, succeeded = sum(row.failed for row in counted), sum(row.succeeded for row in counted)
    first = next((row for row in cause.incidents if row.task_path == cause.subject), cause.incidents[0])
    errors = {(row.host, row.exception_class_path) if row.host else row.key for row in cause.incidents}
    return {
        "since": cause.since.isoformat(),
        "last": max(incident.failed_at for incident in [*incidents, *cause.incidents]).isoformat(),
        "failed": failed,
        "ended": failed + succeeded,
        "exception": first.exception_class_path,
        "place": first.location,
        "others": len(errors) - 1,
        "users": _count_users(incidents),
        "tasks": [cause.subject, *tasks],
        "incidents": [incident.pk for incident in cause.incidents],
    }
