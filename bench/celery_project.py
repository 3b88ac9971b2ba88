"""A Django project with tasks of Celery, whose results go to Redis. With ``BENCH_OBSERVE`` they are observed.

With ``BENCH_IGNORE_RESULT`` they leave no results. All have the same settings, database and tasks, so that they differ
only in what observing costs.
"""

from __future__ import annotations

import os

from celery import Celery

from bench.pickups import report_start

REDIS = os.environ["REDIS_URL"]
IS_OBSERVED = os.environ.get("BENCH_OBSERVE") == "1"
IGNORES_RESULT = os.environ.get("BENCH_IGNORE_RESULT") == "1"

app = Celery("bench", broker=REDIS, backend=REDIS)

if IS_OBSERVED:
    from notifications.contrib.celery import observed
else:

    def observed(**options):
        return lambda task: task


@app.task(ignore_result=IGNORES_RESULT)
@observed(title="Nothing {number}", owner="owner")
def nothing(number: int, owner: int) -> None:
    """Return immediately."""


@app.task
@observed(title="Pickup", owner="owner")
def pickup(port: int, owner: int) -> None:
    """Report the start to ``port``."""
    report_start(port)


def prepare() -> None:
    from bench.database import prepare

    prepare()


def enqueue(number: int) -> None:
    owners = _owners()
    for n in range(number):
        nothing.delay(n, owners[n % len(owners)])


def enqueue_in_bulk(number: int) -> None:
    """Publish one by one, as Celery does with a group, too."""
    enqueue(number)


def enqueue_pickup(port: int) -> None:
    pickup.delay(port, _owners()[0])


def enqueue_for(owner: int) -> str:
    """Publish a task of a user and return its id."""
    return nothing.delay(0, owner).id


def counts() -> tuple[int, int]:
    """Return how many tasks are queued, and how many run, are held by a worker, or are not recorded yet."""
    redis = app.backend.client
    queued, running = redis.llen("celery"), redis.hlen("unacked")
    if IS_OBSERVED and not queued:
        from bench.database import execute

        ((active,),) = execute("SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running')")
        running = max(running, active)
    return queued, running


def _owners() -> list[int]:
    from bench.database import users

    return users()
