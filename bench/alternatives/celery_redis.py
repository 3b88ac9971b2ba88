"""Celery with Redis as broker and for results, by its defaults: prefork, acknowledged before a task runs."""

from __future__ import annotations

import os
import time

from celery import Celery, group

from bench.pickups import report_start

REDIS = os.environ["REDIS_URL"]

app = Celery("bench", broker=REDIS, backend=REDIS)


@app.task
def nothing(number: int) -> None:
    pass


@app.task
def short(number: int) -> None:
    time.sleep(0.05)


@app.task
def pickup(port: int) -> None:
    report_start(port)


def prepare() -> None:
    pass


def enqueue(number: int) -> None:
    for n in range(number):
        nothing.delay(n)


def enqueue_in_bulk(number: int) -> None:
    for start in range(0, number, 500):
        group(nothing.s(n) for n in range(start, min(start + 500, number))).apply_async()


def enqueue_flood(number: int, floods: int) -> None:
    group(short.s(n) for n in range(number * floods)).apply_async()


def enqueue_pickup(port: int) -> None:
    pickup.delay(port)


def counts() -> tuple[int, int]:
    """Return how many jobs are queued and how many run or are held by a worker."""
    redis = app.backend.client
    return redis.llen("celery"), redis.hlen("unacked")
