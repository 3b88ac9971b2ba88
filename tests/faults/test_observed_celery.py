"""Workers of Celery, the broker and the result backend are killed at random: each observed task ends on the bell once.

OBSERVED_ROUNDS=50 python -m pytest tests/faults/test_observed_celery.py -s      more rounds
OBSERVED_SEED=…                                                                   other choices
"""

import os
import random
import signal
import time
from collections import Counter
from contextlib import closing, suppress

import pytest

from notifications.models import Job, Notification
from tests.jobs.engines.celery.conftest import broker, celery_app, start_celery  # noqa: F401
from tests.support.redis_server import Redis
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("OBSERVED_ROUNDS", "6"))
TASKS_PER_ROUND = 12
FAULTS_BY_WEIGHT = (
    *("kill_child", "kill_child", "kill_worker", "kill_worker"),
    *("kill_broker", "kill_results", "kill_results", "flush_results", "revoke"),
)
#: Seconds until every job must have ended.
END_SECONDS = 60


@pytest.fixture
def results():
    """A Redis server of the result backend."""
    server = Redis()
    yield server
    server.stop()


@pytest.mark.timeout(900 + 20 * ROUNDS)
def test_each_task_ends_on_the_bell_once(start_celery, celery_app, broker, results, user):  # noqa: F811
    from kombu.exceptions import OperationalError
    from redis import Redis as Client

    from tests.jobs.engines.celery import tasks

    chance = random.Random(int(os.environ.get("OBSERVED_SEED", "1")))
    pool = ("--pool", "prefork", "--concurrency", 2)
    workers = [start_celery(*pool, environment={"CELERY_RESULT_BACKEND": results.url}) for _ in range(2)]
    counts = Counter()
    published = []

    def publish():
        kind = chance.choice(["export", "export", "slow", "slow_late", "retried", "fail"])
        arguments = (1,) if kind in ("export", "retried") else ()
        with suppress(OperationalError, OSError):  # the broker may be away: nothing was published
            published.append(getattr(tasks, kind).delay(user.pk, *arguments))

    def kill_child():
        if children := chance.choice(workers).children():
            with suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGKILL)

    def kill_worker():
        worker = chance.choice(workers)
        worker.kill()
        worker.start()

    def restart(server):
        server.kill()
        time.sleep(chance.random())
        server.start()

    def kill_broker():
        restart(broker)

    def kill_results():
        restart(results)

    def flush_results():
        with closing(Client.from_url(results.url)) as client:
            client.flushall()

    def revoke():
        with suppress(Exception):
            chance.choice(published).revoke(terminate=chance.random() < 0.5)

    def restart_ended():
        """As a supervisor does: a worker of Celery 5.7 may end when it loses its broker."""
        for worker in workers:
            if not worker.process.running:
                worker.start()

    kills = (kill_child, kill_worker, kill_broker, kill_results, flush_results, revoke)
    faults = {fault.__name__: fault for fault in kills}
    for _ in range(ROUNDS):
        for _ in range(TASKS_PER_ROUND):
            publish()
        time.sleep(chance.random())
        fault = chance.choice(FAULTS_BY_WEIGHT)
        counts[fault] += 1
        faults[fault]()
        restart_ended()
    started = time.monotonic()
    ids = [result.id for result in published]
    active = Job.objects.filter(id__in=ids, state__in=["queued", "running"])

    def have_ended():
        restart_ended()
        return Job.objects.filter(id__in=ids).count() == len(ids) and not active.exists()

    wait_until(
        have_ended,
        timeout=END_SECONDS,
        every=0.2,
        what="all jobs to end",
    )
    seconds = time.monotonic() - started
    jobs = Job.objects.filter(id__in=ids)
    told = Counter(Notification.objects.filter(user=user).values_list("job", flat=True))
    print(f"{ROUNDS} rounds: {dict(counts)}")
    print(f"{len(ids)} tasks, the last end after {seconds:.0f} s: {Counter(job.state for job in jobs)}")
    assert {job.id: told[job.id] for job in jobs} == {job.id: 1 for job in jobs}
