"""Find what is wrong now, by ``NOTIFICATIONS["ALERTS"]``. Each condition reads a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifications.conf import settings
from notifications.contrib.operations.additions import read_alert_kinds
from notifications.contrib.operations.models import Alert, AlertState
from notifications.contrib.operations.running import RunningJobs, read_running
from notifications.contrib.operations.statistics import reading
from notifications.db import connection, database, is_lease_valid
from notifications.extension import OwnTask, hooks
from notifications.jobs import aliases_with_engines, count_owed_calls, stores_jobs, task_backends
from notifications.management import WaitCounts, queue_depths, read_moment
from notifications.models import Worker
from notifications.worker import DEADLINE_MARGIN_SECONDS

Kind = Alert.Kind
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
    ``failure_rate``, ``min_failures``
        The share of jobs of a queue that may fail within 5 minutes; fewer failures than ``min_failures`` never count.
    ``no_worker``
        For which no worker may be alive.
    ``question``
        For which a question may be open.
    """

    interval: float | None = 15
    stalled: float | None = 300
    wait: float | None = 300
    failure_rate: float | None = 0.5
    min_failures: int = 20
    no_worker: float | None = 60
    question: float | None = 86_400


def read_limits() -> Limits:
    """Return the limits of the settings. Raises ``ImproperlyConfigured`` for a wrong one."""
    return Limits(**settings.ALERTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Something that needs an operator: one kind of alert about one queue, or schedule for example, or "" for all."""

    kind: Any  # a value of alert_kinds()
    subject: str = ""
    #: What the text of the alert is made from: see ``texts``.
    facts: dict[str, Any]


def find_conditions(now: datetime, limits: Limits, state: AlertState) -> list[Condition]:
    """Return what is wrong, at most one condition for each kind and subject."""
    depths = queue_depths().queues
    return [
        *_stalled(now, limits, depths),
        *_waiting(now, limits, depths),
        *_failing(now, limits),
        *_without_worker(now, limits, state, depths),
        *_lost(now, state),
        *_unanswered(now, limits),
        *_with_failing_hook(now),
        *_of_extensions(now),
    ]


def _stalled(now: datetime, limits: Limits, depths: list[Any]) -> Iterator[Condition]:
    """Yield the queues with a job that has run for longer than the limit, in which no job has ended since.

    Not those whose jobs are all within their timeouts while no other job waits for a slot: they run long tasks.
    """
    if limits.stalled is None:
        return
    blocked = {depth.name for depth in depths if _is_blocked(depth, now, limits.stalled)}
    old = {
        name: (running.count, (now - running.oldest_since).total_seconds())
        for name, running in read_running().items()
        if running.oldest_since
        and (now - running.oldest_since).total_seconds() >= limits.stalled
        and (name in blocked or _is_overdue(running, now))
    }
    # Statistics are of whole minutes: the one in which the time begins is read too.
    window = timedelta(seconds=limits.stalled)
    ended = (
        {figures.queue for figures in reading.read_figures(window, now=now) if figures.ended} if old else ()
    )
    for name, (count, age) in old.items():
        if name not in ended:
            facts = {"count": count, "age": age, "limit": limits.stalled}
            yield Condition(kind=Kind.STALLED, subject=name, facts=facts)


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


def _waiting(now: datetime, limits: Limits, depths: list[Any]) -> Iterator[Condition]:
    if limits.wait is None:
        return
    for depth in depths:
        if depth.is_paused or depth.oldest_since is None:
            continue
        waited = (now - depth.oldest_since).total_seconds()
        if waited >= limits.wait:
            facts = {
                "count": depth.due,
                "is_capped": depth.is_capped,
                "reasons": WaitCounts.of([depth]),
                "age": waited,
                "limit": limits.wait,
            }
            yield Condition(kind=Kind.WAIT, subject=depth.name, facts=facts)


def _failing(now: datetime, limits: Limits) -> Iterator[Condition]:
    """Yield the queues in which too many jobs fail.

    Those that send events to webhooks, or call the URLs of requests, do not count, neither failed nor succeeded: they
    fail when servers of others do, of which the owner of the webhook is notified, and could hide that all e-mails in
    their queue fail.
    """
    if limits.failure_rate is None:
        return
    by_queue: dict[str, reading.Figures] = {}
    for of_task in reading.read_figures(timedelta(seconds=WINDOW_SECONDS), now=now, by_task=True):
        if not hooks.own_tasks.get(of_task.task, OwnTask()).fails_with_receivers:
            figures = by_queue.setdefault(of_task.queue, reading.Figures(queue=of_task.queue))
            figures.succeeded += of_task.succeeded
            figures.failed += of_task.failed
    for figures in by_queue.values():
        rate = figures.failure_rate
        if figures.failed >= limits.min_failures and rate is not None and rate > limits.failure_rate:
            facts = {
                "failed": figures.failed,
                "ended": figures.succeeded + figures.failed,
                "window": WINDOW_SECONDS,
                "limit": limits.failure_rate,
            }
            yield Condition(kind=Kind.FAILURES, subject=figures.queue, facts=facts)


def _without_worker(
    now: datetime, limits: Limits, state: AlertState, depths: list[Any]
) -> Iterator[Condition]:
    """Yield that no worker is alive. Where engines run all jobs, jobs that wait too long show the same."""
    if limits.no_worker is None or state.no_worker_since is None or not _needs_worker():
        return
    absent = (now - state.no_worker_since).total_seconds()
    if absent >= limits.no_worker:
        yield Condition(kind=Kind.NO_WORKER, facts={"age": absent, "reasons": WaitCounts.of(depths)})


def _of_extensions(now: datetime) -> Iterator[Condition]:
    for kind in read_alert_kinds().values():
        for subject, facts in kind.find(now):
            yield Condition(kind=kind.kind, subject=subject, facts=facts)


def _lost(now: datetime, state: AlertState) -> Iterator[Condition]:
    if state.lease_lost_at and (now - state.lease_lost_at).total_seconds() < WINDOW_SECONDS:
        yield Condition(kind=Kind.LEASE, facts={"worker": state.lost_worker})


def _with_failing_hook(now: datetime) -> Iterator[Condition]:
    for hook, count in count_owed_calls().items():
        yield Condition(kind=Kind.HOOK, subject=hook, facts={"count": count})


def has_live_worker(now: datetime) -> bool:
    """Return whether the lease of a worker that runs jobs holds."""
    rows = Worker.objects.using(database())
    return bool(rows.filter(is_lease_valid(now), concurrency__gt=0, request="").exists())


def _needs_worker() -> bool:
    """Return whether the built-in worker runs the jobs of a backend."""
    with_engines = aliases_with_engines()
    return any(stores_jobs(alias) and alias not in with_engines for alias in task_backends.settings)


def _unanswered(now: datetime, limits: Limits) -> Iterator[Condition]:
    if limits.question is None or not has_questions():
        return
    count, is_capped, since = read_questions()
    age = (now - since).total_seconds() if since else 0.0
    if since and age >= limits.question:
        facts = {"count": count, "is_capped": is_capped, "age": age, "limit": limits.question}
        yield Condition(kind=Kind.QUESTION, facts=facts)


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
