"""This app: each job has an owner, who gets a numbered notification when it is done."""

from __future__ import annotations

from bench.database import USERS, execute, prepare, users  # noqa: F401
from bench.guard_pages import weigh  # noqa: F401
from bench.guard_statements import count_statements  # noqa: F401
from bench.messages import notify_in_turn  # noqa: F401
from bench.sessions import create_users_with_sessions  # noqa: F401


def enqueue(number: int, name: str = "nothing", owners: int = USERS) -> None:
    from bench import tasks

    for n in range(number):
        getattr(tasks, name).using(owner=users()[n % owners]).enqueue(n)


def enqueue_in_bulk(number: int, owners: int = USERS, name: str = "nothing") -> None:
    from django.db import transaction

    for start in range(0, number, 500):
        with transaction.atomic():
            enqueue(min(500, number - start), name, owners=owners)


def enqueue_for_one_owner(number: int) -> None:
    enqueue_in_bulk(number, owners=1)


def notify_one_by_one(number: int) -> None:
    from notifications.api import notify

    for n in range(number):
        notify(users()[n % USERS], "Export 7 is ready", body="12,400 rows", url="/exports/7/")


def enqueue_flood(number: int, floods: int) -> None:
    """Enqueue so many short jobs for each of so many owners, none of them that of ``enqueue_pickup``."""
    from django.db import transaction

    from bench.tasks import short

    for owner in users()[1 : 1 + floods]:
        for start in range(0, number, 500):
            with transaction.atomic():
                for n in range(start, min(start + 500, number)):
                    short.using(owner=owner).enqueue(n)


def enqueue_seconds(number: int) -> None:
    from django.db import transaction

    for start in range(0, number, 500):
        with transaction.atomic():
            enqueue(min(500, number - start), "second")


def enqueue_pickup(port: int) -> None:
    from bench.tasks import pickup

    pickup.using(owner=users()[0]).enqueue(port)


def enqueue_for(owner: int) -> str:
    """Enqueue a job of a user and return its id."""
    from bench.tasks import nothing

    return nothing.using(owner=owner).enqueue(0).id


def count_users() -> int:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.count()


def counts() -> tuple[int, int]:
    """Return the numbers of queued and of running jobs."""
    ((queued,),) = execute(
        "SELECT count(*) FROM notifications_job WHERE state = 'queued' AND run_after IS NULL"
    )
    ((running,),) = execute("SELECT count(*) FROM notifications_job WHERE state = 'running'")
    return queued, running


def first_and_last_start() -> tuple[str, str]:
    """Return when the first and the last job that has started did so, in ISO format."""
    ((first, last),) = execute("SELECT min(started_at), max(started_at) FROM notifications_job")
    return str(first), str(last)


def fill(number: int) -> None:
    """Insert finished jobs and their read notifications."""
    from django.db import connection

    is_sqlite = connection.vendor == "sqlite"
    numbers = f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {number}) "
    # Like UUIDs of version 7 from a year ago, in the order of their time.
    id = "printf('018f%028x', n)" if is_sqlite else "('018f' || lpad(to_hex(n), 28, '0'))::uuid"
    user = f"{users()[0]} + n % {USERS}"
    execute(
        "INSERT INTO notifications_job (id, user_id, seq, version, task_path, args, kwargs, backend, queue_name, "
        "priority, state, attempt, max_attempts, fence, progress_message, result, title, url, language, trace, "
        "idempotency_key, idempotency_hash, concurrency_key, cancelled_by_other, created_at, queued_at, started_at, "
        f"finished_at) {numbers} SELECT {id}, {user}, 2 * ((n - 1) / {USERS}) + 1, 3, 'bench.tasks.nothing', "
        "'[1]', '{}', 'default', 'default', 0, 'succeeded', 1, 3, 1, '', 'null', 'Nothing', '', 'en', "
        f"'', '', '', '', {'0' if is_sqlite else 'false'}, {', '.join(['CURRENT_TIMESTAMP'] * 4)} FROM n"
    )
    execute(
        "INSERT INTO notifications_notification (id, user_id, seq, raised, counted, level, category, title, body, url, "
        f"job, data, key, created_at, read_at) {numbers} SELECT {id}, {user}, 2 * ((n - 1) / {USERS}) + 2, "
        f"2 * ((n - 1) / {USERS}) + 2, {'0' if is_sqlite else 'false'}, 'success', 'job', 'Nothing', 'Succeeded.', '', "
        f"{id}, '{{}}', 'job', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM n"
    )
    execute(
        "INSERT INTO notifications_stream (user_id, head, floor, unread, guard) "
        f"SELECT user_id, max(seq), 0, 0, 0 FROM notifications_notification WHERE {'1' if is_sqlite else 'true'} "
        "GROUP BY user_id"
    )
    execute("ANALYZE")
