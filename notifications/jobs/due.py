"""Which jobs may be claimed now: queued, due, of no paused queue, and within their limits.

A claim walks nothing that it may not take, however much of it waits: it asks which queues have something due, and takes
the first jobs of each by an index that begins with the queue. Where nothing is held back PostgreSQL need not be
asked for queues: see ``anywhere``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q

from notifications import bulk, streams
from notifications.jobs.limits import Room, full, within
from notifications.jobs.queues import limits, paused
from notifications.jobs.rows import clock_clause, lock_clause, locked
from notifications.models import Job
from notifications.transactions import connection, database

#: Of the jobs of a queue for later so many that are due the longest are put in order by priority: an index has either.
#: The keys that have room share as many, where the jobs of others are left out.
LATER = 1_000
#: So many more than are wanted are looked at on PostgreSQL: other workers may hold the first ones.
AHEAD = 300

# How a query says that a job is queued: each way fits one kind of index, and the last one none. PostgreSQL, whose
# statistics may be those of an idle hour, believes that all of them are short, and would walk the wrong one. What it
# can conclude from one way, as a range from a value, would not do.
_ANYWHERE = "FROM notifications_job WHERE state = 'queued'"
_LIKE = {"queued": "'queued%%'", "keyed": "'%%queued'"}
_STILL = "state || '' = 'queued'"

_PAUSED = "SELECT name FROM notifications_queue WHERE paused_at IS NOT NULL"
#: The order of the index, and with one of the conditions on ``run_after`` that of the jobs.
_SOONEST = "ORDER BY run_after, priority DESC, id LIMIT"


def names(queues: Sequence[str] = ()) -> dict[str, bool]:
    """Return the queues in which a job is due that may begin, each with whether its first one has a concurrency key.

    Some look-ups in an index for each queue, no lock. ``queues`` leaves out others.
    """
    found = waiting(queues)
    limited = {name: most for name, most in limits().items() if name in found}
    for name in full(limited) if limited else ():
        del found[name]
    return found


def waiting(queues: Sequence[str] = ()) -> dict[str, bool]:
    """Like ``names``, and with those of which no more may run now."""
    now, at = clock_clause()
    given = list(dict.fromkeys(queues))
    jobs = f"{_by('queued')} AND queue_name"
    # One after the other is found in the index, and at last NULL.
    every = (
        f"names (name) AS (SELECT * FROM (SELECT queue_name {_by('queued')} ORDER BY queue_name LIMIT 1) AS one "
        f"UNION ALL SELECT (SELECT queue_name {jobs} > name ORDER BY queue_name LIMIT 1) "
        "FROM names WHERE name IS NOT NULL)"
    )
    with connection().cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE {_named(given) if given else every} SELECT name, "
            f"(SELECT concurrency_key {jobs} = name AND run_after IS NULL {_SOONEST} 1), "
            f"(SELECT concurrency_key {jobs} = name AND run_after <= {now} {_SOONEST} 1) "
            f"FROM names WHERE name NOT IN ({_PAUSED})",
            [*given, at],
        )
        return {name: bool(ready or later) for name, ready, later in cursor if (ready, later) != (None, None)}


def anywhere(limit: int) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that locks the first jobs on PostgreSQL where nothing is held back.

    It finds none where a queue is paused, a job for later is due, or one waits whose queue has a limit.
    """
    now, at = clock_clause()
    where, params = f"run_after IS NULL AND NOT EXISTS ({_PAUSED})", [at]
    where += f" AND (SELECT run_after {_ANYWHERE} AND run_after <= {now} ORDER BY run_after LIMIT 1) IS NULL"
    if limited := list(limits()):
        of = f"{_by('queued')} AND queue_name = ANY(%s) AND run_after IS NULL"
        where += f" AND (SELECT queue_name {of} ORDER BY queue_name LIMIT 1) IS NULL"
        params.append(limited)
    return _locking(f"{_ANYWHERE} AND {where}", limit), params


def of_queues(limit: int, queues: Collection[str]) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that locks the first jobs of these queues on PostgreSQL."""
    where, params = _first(limit, queues, ())
    return _locking(f"FROM notifications_job WHERE {where}", limit), params


def lock(now: datetime, limit: int, queues: Collection[str], among: Q) -> list[Job]:
    """Lock, in a transaction, the jobs that may be claimed, at most ``limit``, and return them by priority and age."""

    def find(room: Room) -> list[Job]:
        open = [name for name in queues if ("queue", name) not in room.closed]
        if among:
            return _among(among, now, limit, open, room)
        if not open:
            return []
        where, params = _first(limit, open, room.keys(), room.most)
        return bulk.select(Job, f"WHERE {where} {_tail(limit)}", params)

    room = Room(limits())
    jobs = find(room)
    if not is_any_limited(jobs):
        return jobs
    jobs, more = within(find, jobs, room, limit)
    if more:
        streams.ring((), queue=True)
    return jobs


def first(jobs: Iterable[Job], limit: int) -> list[Job]:
    """Return these jobs by priority and age, at most ``limit``."""
    return sorted(jobs, key=lambda job: (-job.priority, job.id))[:limit]


def is_any_limited(jobs: Iterable[Job]) -> bool:
    queues = limits()
    return any(job.concurrency_key or job.queue_name in queues for job in jobs)


def _first(
    limit: int, queues: Collection[str], closed: Collection[str], most: int = 1
) -> tuple[str, list[Any]]:
    """Return the condition, with its parameters, for the first jobs of queues that are due.

    Where keys are ``closed`` those of other keys are looked up, ``most`` of each, and those without one.
    """
    now, at = clock_clause()
    postgresql = connection().vendor == "postgresql"
    ahead = limit + AHEAD if postgresql else limit
    columns = "id, priority" if postgresql else "id"

    def of_each(source: str, jobs: str, limit: int, later: int | str) -> str:
        soonest = f"SELECT id, priority {jobs} AND run_after <= {now} {_SOONEST} {later}"
        jobs = (
            f"SELECT * FROM (SELECT {columns} {jobs} AND run_after IS NULL {_SOONEST} {limit}) AS ready UNION ALL "
            f"SELECT * FROM (SELECT {columns} FROM ({soonest}) AS soonest "
            f"ORDER BY priority DESC, id LIMIT {limit}) AS later"
        )
        if postgresql:
            return f"SELECT jobs.* FROM {source}, LATERAL ({jobs}) AS jobs"
        return f"SELECT job.id FROM {source} CROSS JOIN notifications_job AS job ON job.id IN ({jobs})"

    tables = (
        f"WITH RECURSIVE {_named(queues)}, open AS (SELECT name FROM names WHERE name NOT IN ({_PAUSED}))"
    )
    params = [*queues]
    kinds: list[tuple[str, str, int, int | str]]
    if closed:
        jobs = f"{_by('keyed')} AND queue_name = name AND concurrency_key"
        # Of each queue one after the other is found in the index, and at last NULL.
        keys = (
            "keys (name, key) AS (SELECT name, CAST('' AS text) FROM open UNION ALL SELECT name, "
            f"CAST((SELECT concurrency_key {jobs} > key ORDER BY concurrency_key LIMIT 1) AS text) "
            "FROM keys WHERE key IS NOT NULL)"
        )
        later = f"(SELECT {most} + {LATER} / (1 + count(*)) FROM free)"
        marks = ", ".join(["%s"] * len(closed))
        tables += f", {keys}, free AS (SELECT * FROM keys WHERE key <> '' AND key NOT IN ({marks}))"
        params += closed
        kinds = [("open", f"{jobs} = ''", ahead, LATER), ("free", f"{jobs} = key", most, later)]
    else:
        kinds = [("open", f"{_by('queued')} AND queue_name = name", ahead, LATER)]
    found = " UNION ALL ".join(of_each(*kind) for kind in kinds)
    params += [at] * len(kinds)
    if postgresql:
        # For a join PostgreSQL might read the whole table; in an array it looks up each id.
        found = f"SELECT id FROM ({found}) AS found ORDER BY priority DESC, id LIMIT {ahead}"
    ids = f"{tables} {found}"
    among = f"id = ANY(ARRAY({ids}))" if postgresql else f"id IN ({ids})"
    # Of a row that somebody has just changed only this is asked again.
    return f"{among} AND {_STILL} AND (run_after IS NULL OR run_after <= {now})", [*params, at]


def _among(among: Q, now: datetime, limit: int, queues: Sequence[str], room: Room) -> list[Job]:
    # No index of what is queued: these are looked up by their ids and batches.
    queued = Job.objects.using(database()).filter(
        among, state__iexact=Job.State.QUEUED, queue_name__in=queues
    )
    queued = queued.exclude(queue_name__in=paused()).exclude(concurrency_key__in=room.keys())
    jobs = bulk.read(locked(queued.filter(run_after__isnull=True).order_by("-priority", "id"))[:limit])
    later = queued.filter(run_after__lte=now).order_by("run_after", "id").values_list("id", flat=True)
    jobs += bulk.read(locked(queued.filter(id__in=list(later[:LATER])).order_by("-priority", "id"))[:limit])
    return first(jobs, limit)


def _locking(jobs: str, limit: int) -> str:
    return f"SELECT id, concurrency_key, deadline {jobs} {_tail(limit)}"


def _tail(limit: int) -> str:
    return f"ORDER BY priority DESC, id LIMIT {limit}{lock_clause()}"


def _named(names: Collection[str]) -> str:
    return f"names (name) AS (VALUES {', '.join(['(%s)'] * len(names))})"


def _by(index: str) -> str:
    """Return the FROM and WHERE of queued jobs that are looked up in an index, which SQLite is told by its name."""
    if connection().vendor == "postgresql":
        return f"FROM notifications_job WHERE state::text LIKE {_LIKE[index]}"
    by = f"INDEXED BY notifications_job_{index}"
    return f"FROM notifications_job {by} WHERE state LIKE {_LIKE[index]} ESCAPE '\\'"
