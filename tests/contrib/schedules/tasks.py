"""Tasks of schedules."""

from django.db import connection
from django.utils.functional import lazy

from notifications.api import policy, task

#: The kinds of code of the project that were called for a job of `recorded`, and whether in a transaction.
calls = []


def record_call(kind):
    calls.append((kind, connection.in_atomic_block))
    return "title"


@task
@policy(notify=lambda job: {"title": "The report is ready"})
def report(fails):
    if fails:
        raise ValueError("no data")


@task
def add(a, b):
    return a + b


nightly = add.using(key="nightly")


@task
@policy(title=lazy(record_call, str)("policy"))
def recorded():
    pass
