"""The alert of a task of which many jobs fail: when it begins, and what it says until its incident is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import times
from notifications.contrib.operations.alerts.conditions import WINDOW_SECONDS, JobCheck, Limits, read_limits
from notifications.contrib.operations.incidents.texts import describe_cause, describe_over, format_since
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.contrib.operations.statistics import Figures, read_figures
from notifications.db import database, retrying_atomic
from notifications.extension import Finding, OwnTask, hooks

#: Open incidents that are read at most, the oldest, and the tasks that are found of them.
MAX_INCIDENTS, MAX_TASKS = 1_000, 100
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


class Failing(JobCheck):
    """Many jobs of a task fail."""

    id, label, jobs = "failures", gettext_lazy("Many jobs fail"), {"state__exact": "failed"}

    def find(self, examination: Any) -> Iterator[Finding]:
        if read_limits().failure_rate is None:
            return
        rows = Incident.objects.using(database()).filter(over_at__isnull=True, is_alert=True)
        by_task: dict[str, list[Incident]] = defaultdict(list)
        for incident in rows.order_by("id")[:MAX_INCIDENTS]:
            by_task[incident.task_path].append(incident)
        for task, incidents in islice(by_task.items(), MAX_TASKS):
            incidents.sort(key=lambda incident: incident.begun_at)
            yield Finding(task, _read_facts(task, incidents, examination.now), since=incidents[0].begun_at)

    def describe(self, facts: dict[str, Any]) -> str:
        now = times.now()
        users = ngettext("%(count)d person", "%(count)d people", facts["users"]) % {"count": facts["users"]}
        text = _("Failing since %(time)s: %(failed)d of %(ended)d, %(cause)s, %(people)s")
        return text % {
            "time": format_since(datetime.fromisoformat(facts["since"]), now),
            "failed": facts["failed"],
            "ended": facts["ended"],
            "cause": describe_cause(facts["exception"], facts["place"], facts["others"]),
            "people": users,
        }

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


def _read_facts(task: str, incidents: list[Incident], now: datetime) -> dict[str, Any]:
    since = incidents[0].begun_at
    figures = read_figures(now - since, now=now, task=task)
    failed, succeeded = sum(row.failed for row in figures), sum(row.succeeded for row in figures)
    return {
        "since": since.isoformat(),
        "last": max(incident.failed_at for incident in incidents).isoformat(),
        "failed": failed,
        "ended": failed + succeeded,
        "exception": incidents[0].exception_class_path,
        "place": incidents[0].location,
        "others": len(incidents) - 1,
        "users": _count_users(incidents),
    }
