"""What is wrong with jobs by ``NOTIFICATIONS["ALERTS"]``. Each check reads a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications.conf import settings
from notifications.contrib.operations.models import AlertState
from notifications.contrib.operations.running import RunningJobs, read_running
from notifications.contrib.operations.statistics import reading
from notifications.db import connection, database, is_lease_valid
from notifications.extension import Check, Finding, hooks
from notifications.jobs import aliases_with_engines, stores_jobs, task_backends
from notifications.management import WaitCounts, read_moment
from notifications.models import Worker
from notifications.worker import DEADLINE_MARGIN_SECONDS

#: Seconds after which a due job has waited for a slot: with a free one it is claimed within a second or two.
BLOCKED_SECONDS = 15.0
#: The open questions that are counted at most, the oldest.
MAX_QUESTIONS_COUNTED = 10_000
#: Seconds over which failures are counted, and after which a lost worker is over.
WINDOW_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits in seconds, ``failure_rate`` as a share of 1. None turns an alert off.

    ``interval``
        Between two evaluations; None turns all alerts off.
    ``stalled``
        For which a queue with running jobs may finish none while others wait, or while one is over its timeout.
    ``wait``
        For which a due job of a queue that is not paused may wait.
    ``failure_rate``, ``min_failures``, ``max_failures``
        The share of jobs of a task that may fail within 5 minutes; fewer failures than ``min_failures`` never count,
        and more than ``max_failures`` always do. ``failure_rate`` None turns the alert off.
    ``no_worker``
        For which no worker may be alive.
    ``question``
        For which a question may be open.
    """

    interval: float | None = 15
    stalled: float | None = 300
    wait: float | None = 300
    failure_rate: float | None = 0.2
    min_failures: int = 10
    max_failures: int = 100
    no_worker: float | None = 60
    question: float | None = 86_400


def read_limits() -> Limits:
    """Return the limits of the settings. Raises ``ImproperlyConfigured`` for a wrong one."""
    return Limits(**settings.ALERTS)


def in_words(seconds: float) -> str:
    """Return a time in whole seconds, minutes or hours."""
    if seconds < 120:
        return _("%(count)d s") % {"count": seconds}
    if seconds < 7200:
        return _("%(count)d min") % {"count": seconds / 60}
    return _("%(count)d h") % {"count": seconds / 3600}


class JobCheck(Check):
    """A check of the jobs of each queue. ``jobs`` are the parameters with which the list of jobs shows them."""

    jobs: dict[str, str]
    remedy = "See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS']."


class Stalled(JobCheck):
    """A job of a queue has run for longer than the limit, and no job of the queue has ended since.

    Not if all are within their timeouts while no other job waits for a slot: they run long tasks.
    """

    id, label, jobs = "stalled", gettext_lazy("Queue finishes nothing"), {"state__exact": "running"}

    def find(self, examination: Any) -> Iterator[Finding]:
        now, limit = examination.now, read_limits().stalled
        if limit is None:
            return
        blocked = {depth.name for depth in examination.depths.queues if _is_blocked(depth, now, limit)}
        old = {
            name: running
            for name, running in read_running().items()
            if running.oldest_since
            and (now - running.oldest_since).total_seconds() >= limit
            and (name in blocked or _is_overdue(running, now))
        }
        # Statistics are of whole minutes: the one in which the time begins is read too.
        window = timedelta(seconds=limit)
        ended = {each.queue for each in reading.read_figures(window, now=now) if each.ended} if old else ()
        for name, running in old.items():
            if name not in ended and running.oldest_since:
                age = (now - running.oldest_since).total_seconds()
                facts = {"count": running.count, "age": age, "limit": limit}
                yield Finding(name, facts, since=running.oldest_since)

    def describe(self, facts: dict[str, Any]) -> str:
        text = ngettext(
            "%(count)d job runs, for %(age)s.", "%(count)d jobs run, the oldest for %(age)s.", facts["count"]
        )
        detail = text % {"count": facts["count"], "age": in_words(facts["age"])}
        return f"{detail} " + _("None has ended for %(limit)s.") % {"limit": in_words(facts["limit"])}


def _is_blocked(depth: Any, now: datetime, limit: float) -> bool:
    """Return whether a due job waits that a worker with a free slot would have claimed."""
    if depth.is_paused or depth.oldest_since is None:
        return False
    return (now - depth.oldest_since).total_seconds() >= min(BLOCKED_SECONDS, limit)


def _is_overdue(running: RunningJobs, now: datetime) -> bool:
    """Return whether a job runs for longer than its timeout, as in a process that is frozen."""
    timeout_at = running.first_deadline and running.first_deadline - timedelta(
        seconds=DEADLINE_MARGIN_SECONDS
    )
    return timeout_at is not None and timeout_at < now


class JobsWaiting(JobCheck):
    """A due job of a queue that is not paused has waited for longer than the limit."""

    id, label, jobs = "wait", gettext_lazy("Jobs wait too long"), {"state__exact": "queued"}

    def find(self, examination: Any) -> Iterator[Finding]:
        if (limit := read_limits().wait) is None:
            return
        for depth in examination.depths.queues:
            if depth.is_paused or depth.oldest_since is None:
                continue
            age = (examination.now - depth.oldest_since).total_seconds()
            if age >= limit:
                facts = {"count": depth.due, "is_capped": depth.is_capped, "age": age, "limit": limit}
                facts["reasons"] = WaitCounts.of([depth])
                yield Finding(depth.name, facts, since=depth.oldest_since)

    def describe(self, facts: dict[str, Any]) -> str:
        text = ngettext(
            "%(count)s job waits, for %(age)s. The limit is %(limit)s.",
            "%(count)s jobs wait, the oldest for %(age)s. The limit is %(limit)s.",
            facts["count"],
        )
        count = f"{facts['count']}+" if facts["is_capped"] else str(facts["count"])
        detail = text % {"count": count, "age": in_words(facts["age"]), "limit": in_words(facts["limit"])}
        others = WaitCounts(facts["reasons"]).list_reasons()
        text = _("In the queue: %(reasons)s.") % {"reasons": ", ".join(others)}
        return f"{detail} {text}" if others else detail


class NoWorker(JobCheck):
    """No worker is alive, which ``doctor`` says beside ``workers``.

    Where engines run all jobs, jobs that wait too long show the same.
    """

    id, label, jobs = "no_worker", gettext_lazy("No worker"), {"state__exact": "queued"}

    def find(self, examination: Any) -> Iterator[Finding]:
        limit, since = read_limits().no_worker, AlertState.read().no_worker_since
        if limit is None or since is None or not examination.is_for_alerts or not _needs_worker():
            return
        absent = (examination.now - since).total_seconds()
        if absent >= limit:
            facts = {"age": absent, "reasons": WaitCounts.of(examination.depths.queues)}
            yield Finding("", facts, since=since)

    def describe(self, facts: dict[str, Any]) -> str:
        detail = _("No worker has been alive for %(age)s.") % {"age": in_words(facts["age"])}
        return f"{detail} {WaitCounts(facts['reasons']).describe()}."


def has_live_worker(now: datetime) -> bool:
    """Return whether the lease of a worker that runs jobs holds."""
    rows = Worker.objects.using(database())
    return bool(rows.filter(is_lease_valid(now), concurrency__gt=0, request="").exists())


def _needs_worker() -> bool:
    """Return whether the built-in worker runs the jobs of a backend."""
    with_engines = aliases_with_engines()
    return any(stores_jobs(alias) and alias not in with_engines for alias in task_backends.settings)


class WorkerLost(JobCheck):
    """The lease of a worker was lost, a few minutes ago at most."""

    id, label, jobs = "lease", gettext_lazy("Worker lost"), {"created": "hour"}

    def find(self, examination: Any) -> Iterator[Finding]:
        state = AlertState.read()
        lost_at = state.lease_lost_at
        if lost_at and (examination.now - lost_at).total_seconds() < WINDOW_SECONDS:
            yield Finding("", {"worker": state.lost_worker}, since=lost_at)

    def describe(self, facts: dict[str, Any]) -> str:
        text = _("%(worker)s ended, or was suspended, without releasing its jobs. They are run again.")
        return text % {"worker": facts["worker"]}


class Unanswered(JobCheck):
    """A question is open for longer than the limit."""

    id, label, jobs = "question", gettext_lazy("Question unanswered"), {"state__exact": "waiting"}

    def find(self, examination: Any) -> Iterator[Finding]:
        if (limit := read_limits().question) is None or not has_questions():
            return
        count, is_capped, since = read_questions()
        age = (examination.now - since).total_seconds() if since else 0.0
        if since and age >= limit:
            facts = {"count": count, "is_capped": is_capped, "age": age, "limit": limit}
            yield Finding("", facts, since=since)

    def describe(self, facts: dict[str, Any]) -> str:
        text = ngettext(
            "%(count)s question is open, for %(age)s. The limit is %(limit)s.",
            "%(count)s questions are open, the oldest for %(age)s. The limit is %(limit)s.",
            facts["count"],
        )
        count = f"{facts['count']}+" if facts["is_capped"] else str(facts["count"])
        return text % {"count": count, "age": in_words(facts["age"]), "limit": in_words(facts["limit"])}


#: In the order in which ``doctor`` asks them.
JOB_CHECKS = (Stalled(), JobsWaiting(), NoWorker(), WorkerLost(), Unanswered())


def has_questions() -> bool:
    """Return whether jobs can ask questions: an app adds them."""
    return "question" in hooks.wait_kinds


def read_questions() -> tuple[int, bool, datetime | None]:
    """Return how many questions are open, whether there are more, and since when the oldest is open.

    At most ``MAX_QUESTIONS_COUNTED`` are counted.
    """
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT count(*), min(created_at) FROM (SELECT created_at FROM notifications_wait WHERE kind = 'question' "
            f"AND ended_at IS NULL ORDER BY created_at LIMIT {MAX_QUESTIONS_COUNTED} + 1) AS question"
        )
        count, since = cursor.fetchone()
        return min(count, MAX_QUESTIONS_COUNTED), count > MAX_QUESTIONS_COUNTED, read_moment(since)
