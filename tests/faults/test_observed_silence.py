"""Observed tasks that are done, but whose child process ended before it could report that.

OBSERVED_ROUNDS=30 python -m pytest tests/faults/test_observed_silence.py --database postgres -s       more tasks
"""

import os
from collections import Counter
from contextlib import closing, suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from notifications import times
from notifications.models import Job, Notification
from tests.contrib.celery.conftest import broker, celery_app, start_celery  # noqa: F401
from tests.support.celery_worker import require_prefork
from tests.support.outcomes import error_type
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("OBSERVED_ROUNDS", "3"))
OUTAGE_SECONDS = 8
PREFORK = ("--pool", "prefork", "--concurrency", 3)


@pytest.fixture
def tasks(celery_app):  # noqa: F811
    from tests.contrib.celery import tasks

    require_prefork()
    return tasks


def count_unended(results, user):
    """Return the states of the jobs when the main process has looked, a minute after they were queued."""
    jobs = Job.objects.filter(id__in=[result.id for result in results])
    wait_until(lambda: jobs.count() == len(results), timeout=30, what="the rows of all tasks")
    unended = jobs.filter(state__in=["queued", "running"])
    jobs.update(queued_at=F("queued_at") - timedelta(seconds=61))
    with suppress(AssertionError):
        wait_until(lambda: not unended.exists(), timeout=25, every=0.2, what="all ends")
    states = Counter((job.state, error_type(job)) for job in jobs)
    print(f"{len(results)} tasks: {dict(states)}")
    notified = Counter(Notification.objects.filter(user=user).values_list("job", flat=True))
    assert set(notified.values()) <= {1}
    return unended.count()


@pytest.mark.timeout(300 + 10 * ROUNDS)
@pytest.mark.parametrize("ignore_result", [False, True], ids=["stored", "not stored"])
def test_a_child_that_is_killed_just_after_the_return(start_celery, tasks, user, ignore_result):  # noqa: F811
    """What it returned has gone to the main process, its reports have not gone to the database."""
    worker = start_celery(*PREFORK)
    results = []
    for number in range(4 * ROUNDS):
        options = {"ignore_result": ignore_result}
        results.append(tasks.die_after_return.apply_async((user.pk, 0.005 * (number % 8)), **options))
        # The next task runs in another child, so that none is killed before its return.
        wait_until(lambda: worker.output.count("exited with") == len(results), what="the child to die")
    assert count_unended(results, user) == 0


@pytest.mark.timeout(300 + 20 * ROUNDS)
def test_children_that_end_while_the_database_is_away(start_celery, tasks, user):  # noqa: F811
    """Each waits 5 s for what it has to report, and then ends."""
    import psycopg

    worker = start_celery(*PREFORK, "--max-tasks-per-child", 1)
    name = connection.settings_dict["NAME"]
    options = {key: connection.settings_dict[key.upper()] for key in ("host", "port", "user")}
    with closing(psycopg.connect(dbname="postgres", autocommit=True, **options)) as admin:
        own = connection.connection.info.backend_pid if connection.connection else 0
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        began = times.now()
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                [name, own],
            )
            results = [tasks.export.delay(user.pk, year) for year in range(2 * ROUNDS)]
            for result in results:
                result.get(timeout=60)
            wait_until(
                lambda: (times.now() - began).total_seconds() > OUTAGE_SECONDS,
                timeout=2 * OUTAGE_SECONDS,
                what="the end of the outage",
            )
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert worker.process.running
    assert count_unended(results, user) == 0
