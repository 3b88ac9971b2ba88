"""Which jobs may be claimed now: queued, due, of no paused queue, of the lanes that are free, and within their limits.

A claim walks nothing that it may not take, however much of it waits: it asks which queues have something due, and takes
the first jobs of each by an index that begins with the queue and the lane. Where nothing is held back PostgreSQL need
not be asked for queues: see ``anywhere``.

``lanes`` says how many jobs of each lane may be claimed; those that are left out are not looked at. Which jobs of
several lanes come first is decided before they are locked, so that no claim locks more than it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q

from notifications import streams
from notifications.db import bulk
from notifications.db.transactions import connection, database
from notifications.jobs.claiming.concurrency import RunningLimits, full, within
from notifications.jobs.claiming.lanes import LANES, Lanes
from notifications.jobs.claiming.queues import limits, paused
from notifications.jobs.transitions.guards import database_now_sql, lock_query, lock_sql
from notifications.models import Job

#: Of the jobs of a queue for later so many that are due the longest are put in order by priority: an index has either.
#: The keys that have room share as many, where the jobs of others are left out.
MAX_DELAYED_SORTED = 1_000
#: So many more than are wanted are looked at on PostgreSQL: other workers may hold the first ones.
EXTRA_ROWS_READ = 300

# How a query says that a job is queued: each way fits one kind of index, and the last one none. PostgreSQL, whose
# statistics may be those of an idle hour, believes that all of them are short, and would walk the wrong one. What it
# can conclude from one way, as a range from a value, would not do.
_ANYWHERE = "FROM notifications_job WHERE state = 'queued'"
_LIKE = {"queued": "'queued%%'", "keyed": "'%%queued'"}
_STILL = "state || '' = 'queued'"

_PAUSED = "SELECT name FROM notifications_queue WHERE paused_at IS NOT NULL"
#: The first jobs of several.
_BEST = "ORDER BY priority DESC, id LIMIT"
#: The order of the index, and with one of the conditions on ``run_after`` that of the jobs.
_SOONEST = "ORDER BY run_after, priority DESC, id LIMIT"


def names(queues: Sequence[str] = (), lanes: Collection[str] = LANES) -> dict[str, bool]:
    """Return the queues in which a job is due that may begin, each with whether its first one has a concurrency key.

    Some look-ups in an index for each queue and lane, no lock. ``queues`` leaves out others.
    """
    found = waiting(queues, lanes)
    limited = {name: most for name, most in limits().items() if name in found}
    for name in full(limited) if limited else ():
        del found[name]
    return found


def waiting(queues: Sequence[str] = (), lanes: Collection[str] = LANES) -> dict[str, bool]:
    """Like ``names``, and with those of which no more may run now."""
    now, at = database_now_sql()
    given = list(dict.fromkeys(queues))
    queued = f"{_by('queued')} AND queue_name"
    jobs = f"{queued} = name AND lane = open_lane"
    # One after the other is found in the index, and at last NULL.
    every = (
        f"names (name) AS (SELECT * FROM (SELECT queue_name {_by('queued')} ORDER BY queue_name LIMIT 1) AS one "
        f"UNION ALL SELECT (SELECT queue_name {queued} > name ORDER BY queue_name LIMIT 1) "
        "FROM names WHERE name IS NOT NULL)"
    )
    with connection().cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE {_named(given) if given else every}, {_lanes(lanes)} SELECT name, "
            f"(SELECT concurrency_key {jobs} AND run_after IS NULL {_SOONEST} 1), "
            f"(SELECT concurrency_key {jobs} AND run_after <= {now} {_SOONEST} 1) "
            f"FROM names CROSS JOIN lanes WHERE name NOT IN ({_PAUSED})",
            [*given, at],
        )
        found: dict[str, bool] = {}
        for name, *keys in cursor:
            if keys != [None, None]:
                found[name] = found.get(name, False) or any(keys)
        return found


def anywhere(limit: int, lanes: Lanes) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that locks the first jobs on PostgreSQL where nothing is held back.

    It finds none where a queue is paused, a job for later is due, or one waits whose queue has a limit.
    """
    now, at = database_now_sql()
    where, params = f"NOT EXISTS ({_PAUSED})", [at]
    where += f" AND (SELECT run_after {_ANYWHERE} AND run_after <= {now} ORDER BY run_after LIMIT 1) IS NULL"
    if limited := list(limits()):
        of = f"{_by('queued')} AND queue_name = name AND lane = open_lane AND run_after IS NULL {_SOONEST} 1"
        where += (
            f" AND NOT EXISTS (WITH {_lanes(lanes)} "
            f"SELECT 1 FROM unnest(%s::text[]) AS name, lanes WHERE (SELECT true {of}))"
        )
        params.append(limited)
    jobs = {lane: f"{_ANYWHERE} AND lane = '{lane}' AND run_after IS NULL" for lane in lanes}
    firsts = {lane: f"SELECT id, priority {jobs[lane]} {_BEST} {most}" for lane, most in lanes.items()}
    tables, locked = _locking("id, concurrency_key, deadline", limit, lanes, jobs, firsts, where)
    return f"WITH {tables} {locked}" if tables else locked, params


def of_queues(limit: int, queues: Collection[str], lanes: Lanes) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that locks the first jobs of these queues on PostgreSQL."""
    return _of_queues("id, concurrency_key, deadline", limit, queues, lanes, ())


def lock(now: datetime, limit: int, queues: Collection[str], among: Q, lanes: Lanes) -> list[Job]:
    """Lock, in a transaction, the jobs that may be claimed, at most ``limit``, and return them by priority and age."""

    def find(room: RunningLimits) -> list[Job]:
        open = [name for name in queues if ("queue", name) not in room.closed]
        open_lanes = {lane: most for lane, most in lanes.items() if ("lane", lane) not in room.closed}
        if among:
            return _among(among, now, limit, open, open_lanes, room)
        if not open or not open_lanes:
            return []
        with connection().cursor() as cursor:
            columns = ", ".join(field.column for field in Job._meta.concrete_fields)
            cursor.execute(*_of_queues(columns, limit, open, open_lanes, room.keys(), room.most))
            return first(bulk.instances(Job, cursor.fetchall()), limit)

    room = RunningLimits(limits(), lanes)
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


def _of_queues(
    columns: str,
    limit: int,
    queues: Collection[str],
    lanes: Lanes,
    closed: Collection[str],
    most_of_key: int = 1,
) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, for the first jobs of queues that are due; on PostgreSQL it locks them.

    Where keys are ``closed`` those of other keys are looked up, ``most_of_key`` of each, and those without one.
    """
    now, at = database_now_sql()
    postgresql = connection().vendor == "postgresql"
    tables = f"{_named(queues)}, open AS (SELECT name FROM names WHERE name NOT IN ({_PAUSED}))"
    params = [*queues]
    found = {}
    for lane, most in lanes.items():
        ahead = most + EXTRA_ROWS_READ if postgresql else most
        if closed:
            tables += f", {_keys(lane, closed)}"
            params += closed
            jobs = f"{_by('keyed')} AND queue_name = name AND lane = '{lane}' AND concurrency_key"
            later = f"(SELECT {most_of_key} + {MAX_DELAYED_SORTED} / (1 + count(*)) FROM free_{lane})"
            firsts = [_of_each("open", f"{jobs} = ''", ahead, MAX_DELAYED_SORTED, now)]
            firsts.append(_of_each(f"free_{lane}", f"{jobs} = key", most_of_key, later, now))
        else:
            jobs = f"{_by('queued')} AND queue_name = name AND lane = '{lane}'"
            firsts = [_of_each("open", jobs, ahead, MAX_DELAYED_SORTED, now)]
        union = " UNION ALL ".join(firsts)
        tables += f", found_{lane} AS (SELECT id, priority FROM ({union}) AS found {_BEST} {ahead})"
        params += [at] * len(firsts)
        found[lane] = f"SELECT id, priority FROM found_{lane} {_BEST} {most}"
    if not postgresql:
        best = " UNION ALL ".join(f"SELECT * FROM ({firsts})" for firsts in found.values())
        return (
            f"WITH RECURSIVE {tables} SELECT {columns} FROM notifications_job "
            f"WHERE id IN (SELECT id FROM ({best}) {_BEST} {limit})",
            params,
        )
    # In an array each id is looked up; for a join PostgreSQL might read the whole table. Of a row that somebody has
    # just changed only the rest is asked again.
    still = f"{_STILL} AND (run_after IS NULL OR run_after <= {now})"
    jobs_of = {
        lane: f"FROM notifications_job WHERE id = ANY(ARRAY(SELECT id FROM found_{lane})) AND {still}"
        for lane in lanes
    }
    params += [at] * len(lanes)
    more, select = _locking(columns, limit, lanes, jobs_of, found)
    return f"WITH RECURSIVE {', '.join(filter(None, [tables, more]))} {select}", params


def _of_each(source: str, jobs: str, limit: int, later: int | str, now: str) -> str:
    """Return the query for the first jobs of each row of ``source``: those that are ready and those for later."""
    columns = "id, priority" if connection().vendor == "postgresql" else "id"
    soonest = f"SELECT id, priority {jobs} AND run_after <= {now} {_SOONEST} {later}"
    jobs = (
        f"SELECT * FROM (SELECT {columns} {jobs} AND run_after IS NULL {_SOONEST} {limit}) AS ready UNION ALL "
        f"SELECT * FROM (SELECT {columns} FROM ({soonest}) AS soonest {_BEST} {limit}) AS later"
    )
    if connection().vendor == "postgresql":
        return f"SELECT jobs.* FROM {source}, LATERAL ({jobs}) AS jobs"
    return (
        f"SELECT job.id, job.priority FROM {source} CROSS JOIN notifications_job AS job ON job.id IN ({jobs})"
    )


def _keys(lane: str, closed: Collection[str]) -> str:
    """Return the tables of the concurrency keys with which jobs of the open queues wait, without those closed."""
    jobs = f"{_by('keyed')} AND queue_name = name AND lane = '{lane}' AND concurrency_key"
    marks = ", ".join(["%s"] * len(closed))
    # Of each queue one after the other is found in the index, and at last NULL.
    return (
        f"keys_{lane} (name, key) AS (SELECT name, CAST('' AS text) FROM open UNION ALL SELECT name, "
        f"CAST((SELECT concurrency_key {jobs} > key ORDER BY concurrency_key LIMIT 1) AS text) "
        f"FROM keys_{lane} WHERE key IS NOT NULL), "
        f"free_{lane} AS (SELECT * FROM keys_{lane} WHERE key <> '' AND key NOT IN ({marks}))"
    )


def _locking(
    columns: str,
    limit: int,
    lanes: Lanes,
    jobs: Mapping[str, str],
    firsts: Mapping[str, str],
    where: str = "true",
) -> tuple[str, str]:
    """Return the query that locks the first jobs of all lanes on PostgreSQL, the tables of its WITH before it.

    ``jobs`` are the FROM and WHERE of the jobs of each lane, ``firsts`` the queries for the first ones of them as they
    look without a lock, and ``where`` a condition for all.
    """
    lock = lock_sql()
    if len(lanes) == 1:
        [(lane, most)] = lanes.items()
        return "", f"SELECT {columns} {jobs[lane]} AND {where} {_BEST} {min(most, limit)}{lock}"
    union = " UNION ALL ".join(
        f"(SELECT '{lane}' AS lane, id, priority FROM ({firsts[lane]}) AS firsts)" for lane in lanes
    )
    tables = [f"best AS MATERIALIZED (SELECT lane FROM ({union}) AS firsts WHERE {where} {_BEST} {limit})"]
    for lane in lanes:
        share = f"(SELECT count(*) FROM best WHERE lane = '{lane}')"
        tables.append(f"locked_{lane} AS MATERIALIZED (SELECT {columns} {jobs[lane]} {_BEST} {share}{lock})")
    locked = " UNION ALL ".join(f"SELECT * FROM locked_{lane}" for lane in lanes)
    # The limit tells the planner how few they are.
    return ", ".join(tables), f"SELECT * FROM ({locked}) AS locked LIMIT {limit}"


def _among(
    among: Q, now: datetime, limit: int, queues: Sequence[str], lanes: Lanes, room: RunningLimits
) -> list[Job]:
    # No index of what is queued: these are looked up by their ids and batches.
    queued = Job.objects.using(database()).filter(
        among, state__iexact=Job.State.QUEUED, queue_name__in=queues
    )
    queued = queued.exclude(queue_name__in=paused()).exclude(concurrency_key__in=room.keys())
    jobs: list[Job] = []
    for lane, most in lanes.items():
        of_lane = queued.filter(lane=lane)
        ready = of_lane.filter(run_after__isnull=True).order_by("-priority", "id")
        later = of_lane.filter(run_after__lte=now).order_by("run_after", "id").values_list("id", flat=True)
        due = of_lane.filter(id__in=list(later[:MAX_DELAYED_SORTED])).order_by("-priority", "id")
        jobs += first(bulk.read(lock_query(ready)[:most]) + bulk.read(lock_query(due)[:most]), most)
    return first(jobs, limit)


def _named(names: Collection[str]) -> str:
    return f"names (name) AS (VALUES {', '.join(['(%s)'] * len(names))})"


def _lanes(lanes: Collection[str]) -> str:
    values = ", ".join(f"('{lane}')" for lane in lanes)
    return f"lanes (open_lane) AS (VALUES {values})"


def _by(index: str) -> str:
    """Return the FROM and WHERE of queued jobs that are looked up in an index, which SQLite is told by its name."""
    if connection().vendor == "postgresql":
        return f"FROM notifications_job WHERE state::text LIKE {_LIKE[index]}"
    by = f"INDEXED BY notifications_job_{index}"
    return f"FROM notifications_job {by} WHERE state LIKE {_LIKE[index]} ESCAPE '\\'"
