"""Claims: queued jobs become a worker's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.db import bulk
from notifications.db.transactions import connection, execute_one, retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.lanes import LANES, Lanes
from notifications.jobs.claiming.queues import limits
from notifications.jobs.transitions.guards import clock, clock_clause, update_held
from notifications.models import Job

#: Seconds that a claim holds beyond the task's timeout, so that a wedged event loop cannot keep a job for ever, and the
#: timeout where that of the task is not known yet.
DEADLINE_MARGIN_SECONDS, DEFAULT_TIMEOUT_SECONDS = 60, 300
CLAIM_ASSIGNMENTS = (
    "state = 'running'",
    "fence = fence + 1",
    "attempt = attempt + 1",
    "version = version + 1",
)


def claim(
    worker: UUID,
    limit: int,
    *,
    queues: Sequence[str] = (),
    timeouts: dict[str, float] | None = None,
    among: Q | None = None,
    lanes: Lanes | None = None,
) -> list[Job]:
    """Claim at most ``limit`` queued jobs that are due, by priority and age, and return them as they are now.

    ``timeouts``
        The seconds that tasks may take, by path, as far as they are known.
    ``among``
        Leaves out other jobs.
    ``lanes``
        At most so many jobs of each lane, none of those that are not named; ``limit`` of each unless given.
    """
    timeouts = timeouts or {}
    if lanes is None:
        lanes = dict.fromkeys(LANES, limit)
    lanes = {lane: min(most, limit) for lane, most in lanes.items() if most > 0}
    if not lanes or limit <= 0:
        return []
    at_once = among is None and connection().vendor == "postgresql"
    limited = limits().keys()
    if at_once and limited.isdisjoint(queues):
        soonest = candidates.of_queues(limit, queues, lanes) if queues else candidates.anywhere(limit, lanes)
        if jobs := _claim_in_one_statement(worker, limit, timeouts, *soonest):
            return jobs
    names = candidates.names(queues, lanes)
    if not names:
        return []
    at_once = at_once and not queues and limited.isdisjoint(names) and not any(names.values())
    if at_once and (
        jobs := _claim_in_one_statement(worker, limit, timeouts, *candidates.of_queues(limit, names, lanes))
    ):
        return jobs

    def take() -> list[Job]:
        now = clock()
        jobs = candidates.lock(now, limit, names, among or Q(), lanes)
        for job in jobs:
            job.state = Job.State.RUNNING
            job.worker = worker
            job.known_by = job.deadline  # type: ignore[attr-defined]  # see postpone()
            job.fence += 1
            job.attempt += 1
            job.version += 1
            job.started_at = now
            job.deadline = now + timedelta(
                seconds=timeouts.get(job.task_path, DEFAULT_TIMEOUT_SECONDS) + DEADLINE_MARGIN_SECONDS
            )
        db = connection()
        time = partial(times.to_db, db=db)
        id = Job._meta.pk.get_db_prep_value(worker, db)
        update_held(
            ("worker", "started_at", "deadline"),
            [((id, time(now), time(job.deadline)), job) for job in jobs],
            also=CLAIM_ASSIGNMENTS,
            state="queued",
            fence=lambda job: job.fence - 1,
        )
        streams.ring(job.user_id for job in jobs)
        return jobs

    return retrying_atomic(take)


def _claim_in_one_statement(
    worker: UUID, limit: int, timeouts: Mapping[str, float], locking: str, params: Sequence[Any]
) -> list[Job]:
    """Claim in one round trip to PostgreSQL what a query locks; nothing, if one of the jobs has a key."""
    now, at = clock_clause()
    columns = ", ".join(f"j.{field.column}" for field in Job._meta.concrete_fields)
    rows = execute_one(
        f"WITH due AS MATERIALIZED ({locking}) "
        f"UPDATE notifications_job j SET {', '.join(CLAIM_ASSIGNMENTS)}, worker = %s, started_at = clock.now, "
        "deadline = clock.now + make_interval(secs => coalesce((%s::jsonb ->> j.task_path)::float8, %s) + %s) "
        f"FROM due, {now} AS clock (now) WHERE j.id = due.id AND j.state = 'queued' "
        "AND NOT EXISTS (SELECT 1 FROM due WHERE concurrency_key <> '') "
        f"RETURNING {columns}, due.deadline",
        [*params, worker, json.dumps(timeouts), DEFAULT_TIMEOUT_SECONDS, DEADLINE_MARGIN_SECONDS, at],
    )
    jobs = bulk.instances(Job, (row[:-1] for row in rows))
    for job, row in zip(jobs, rows, strict=True):
        known_by = row[-1] and times.from_db(row[-1], connection())
        job.known_by = known_by  # type: ignore[attr-defined]  # see postpone()
    streams.ring(job.user_id for job in jobs)
    return candidates.first(jobs, limit)
