"""A Django project with tasks of Celery, whose results go to Redis. With ``BENCH_IGNORE_RESULT`` they leave none."""

from __future__ import annotations

import os

from celery import Celery

from bench.pickups import report_start

REDIS = os.environ["REDIS_URL"]
IGNORES_RESULT = os.environ.get("BENCH_IGNORE_RESULT") == "1"

app = Celery("bench", broker=REDIS, backend=REDIS)


@app.task(ignore_result=IGNORES_RESULT)
def nothing(number: int) -> None:
    """Return immediately."""


@app.task
def pickup(port: int) -> None:
    """Report the start to ``port``."""
    report_start(port)


def prepare() -> None:
    from bench.database import prepare

    prepare()


def enqueue(number: int) -> None:
    for n in range(number):
        nothing.delay(n)


def enqueue_in_bulk(number: int) -> None:
    """Publish one by one, as Celery does with a group, too."""
    enqueue(number)


def enqueue_pickup(port: int) -> None:
    pickup.delay(port)


def counts() -> tuple[int, int]:
    """Return how many tasks are queued, and how many run or are held by a worker."""
    redis = app.backend.client
    return redis.llen("celery"), redis.hlen("unacked")
