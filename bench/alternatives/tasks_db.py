"""django-tasks-db: Django's Tasks in a table. A worker process runs one job at a time."""

from __future__ import annotations

from bench.database import execute, prepare  # noqa: F401


def enqueue(number: int) -> None:
    from bench.tasks import nothing_sync

    for n in range(number):
        nothing_sync.enqueue(n)


def enqueue_in_bulk(number: int) -> None:
    from django.db import transaction

    for start in range(0, number, 500):
        with transaction.atomic():
            enqueue(min(500, number - start))


def enqueue_flood(number: int, floods: int) -> None:
    from django.db import transaction

    from bench.tasks import short_sync

    with transaction.atomic():
        for n in range(number * floods):
            short_sync.enqueue(n)


def enqueue_pickup(port: int) -> None:
    from bench.tasks import pickup_sync

    pickup_sync.enqueue(port)


def counts() -> tuple[int, int]:
    """Return how many jobs are queued and how many run."""
    ((queued,),) = execute("SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'READY'")
    return queued, 0


def fill(number: int) -> None:
    """Add finished jobs."""
    from django.db import connection

    lite = connection.vendor == "sqlite"
    id = "printf('018f%028x', n)" if lite else "('018f' || lpad(to_hex(n), 28, '0'))::uuid"
    execute(
        "INSERT INTO django_tasks_database_dbtaskresult (id, status, enqueued_at, started_at, finished_at, "
        "args_kwargs, priority, task_path, worker_ids, queue_name, backend_name, run_after, return_value, "
        "exception_class_path, traceback) "
        f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {number}) "
        f"SELECT {id}, 'SUCCESSFUL', {', '.join(['CURRENT_TIMESTAMP'] * 3)}, "
        """'{"args": [1], "kwargs": {}}', 0, 'bench.tasks.nothing_sync', '["w"]', 'default', 'default', """
        "'9999-01-01 00:00:00', 'null', '', '' FROM n"
    )
    execute("ANALYZE")
