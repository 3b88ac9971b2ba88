"""Workers of Celery, the broker and the result backend are killed at random: each observed task ends on the bell once.

OBSERVED_ROUNDS=50 python -m pytest tests/faults/test_observed_celery.py -s      more rounds
OBSERVED_SEED=…                                                                   other choices
FAULT_ROUNDS=100 python -m pytest tests/faults/test_observed_celery.py -k suspended -s       rounds for each broker
"""

import os
import random
import signal
import time
from collections import Counter
from contextlib import closing, suppress

import pytest

from notifications.models import Job, Notification
from tests.contrib.celery.conftest import broker, celery_app, start_celery  # noqa: F401
from tests.support.celery_worker import CeleryWorker, require_prefork
from tests.support.outcomes import error_type
from tests.support.rabbitmq import START_SECONDS, RabbitMQ
from tests.support.redis_server import Redis
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("OBSERVED_ROUNDS", "6"))
TASKS_PER_ROUND = 12
FAULTS_BY_WEIGHT = (
    *("kill_child", "kill_child", "kill_worker", "kill_worker"),
    *("kill_broker", "kill_results", "kill_results", "flush_results", "revoke"),
)
#: Seconds until every job must have ended. It is to find those that never do.
END_SECONDS = 180
#: Jobs of tasks whose messages the broker has lost, or whose starts and ends died with their process, end after some
#: time, when the result backend is asked.
OBSERVED = {"tests.contrib.celery.tasks.*": {"owner": "user_id", "start_within": 40}}

#: The types of errors of jobs whose ends are not known.
GUESSES = ("expired", "outcome-unknown", "worker-lost")


@pytest.fixture
def results():
    """A Redis server of the result backend."""
    server = Redis()
    yield server
    server.stop()


@pytest.mark.timeout(900 + 20 * ROUNDS)
def test_each_task_ends_on_the_bell_once(start_celery, celery_app, broker, results, user, settings):  # noqa: F811
    from kombu.exceptions import OperationalError as BrokerError
    from redis import Redis as Client

    from tests.contrib.celery import tasks

    chance = random.Random(int(os.environ.get("OBSERVED_SEED", "1")))
    require_prefork()
    pool = ("--pool", "prefork", "--concurrency", 2)
    workers = [
        start_celery(
            *pool,
            environment={"CELERY_RESULT_BACKEND": results.url},
            notifications={"CELERY": {"tasks": OBSERVED}},
        )
        for _ in range(2)
    ]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CELERY": {"tasks": OBSERVED}}
    counts = Counter()
    published = []

    def publish():
        kind = chance.choice(["export", "export", "slow", "slow_late", "retried", "fail"])
        arguments = (1,) if kind in ("export", "retried") else ()
        with suppress(BrokerError, OSError):  # the broker may be away: nothing was published
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


#: Seconds for which a worker is suspended: its lease of 4 s ends, and others find its jobs missing.
SUSPENDED_SECONDS = (4.0, 20.0)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request, broker):  # noqa: F811
    if request.param == "redis":
        yield broker.url
        return
    server = RabbitMQ()
    yield server.url
    server.stop()


@pytest.mark.timeout(START_SECONDS + 600 + 60 * int(os.environ.get("FAULT_ROUNDS", "2")))
def test_no_task_that_ran_is_lost_when_workers_are_suspended_or_killed(
    broker_url,
    celery_app,  # noqa: F811
    results,
    user,
    tmp_path,
    transactional_db,
    request,
    settings,
):
    from tests.contrib.celery import tasks

    rounds = int(os.environ.get("FAULT_ROUNDS", "2"))
    chance = random.Random(int(os.environ.get("OBSERVED_SEED", "1")))
    ran = tmp_path / "ran"
    ran.touch()
    environment = {"CELERY_RESULT_BACKEND": results.url, "OBSERVED_RAN": str(ran)}
    require_prefork()
    pool = ("--pool", "prefork", "--concurrency", 2)
    options = {"environment": environment, "notifications": {"CELERY": {"tasks": OBSERVED}}}
    workers = [CeleryWorker(tmp_path, broker_url, *pool, **options) for _ in range(2)]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CELERY": {"tasks": OBSERVED}}
    request.addfinalizer(lambda: [worker.stop() for worker in workers])
    for worker in workers:
        worker.start()
    counts = Counter()
    published = []

    def publish():
        kind = chance.choice(["export", "slow", "slow", "slow_late", "retried", "fail"])
        arguments = (1,) if kind in ("export", "retried") else ()
        with celery_app.connection_for_write(broker_url) as connection:
            options = {"connection": connection}
            published.append(getattr(tasks, kind).apply_async((user.pk, *arguments), **options).id)

    def suspend(worker):
        pids = [worker.pid, *worker.children()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            ends_at = time.monotonic() + chance.uniform(*SUSPENDED_SECONDS)
            while time.monotonic() < ends_at:
                time.sleep(1)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def kill_child(worker):
        for pid in worker.children()[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_worker(worker):
        worker.kill()
        worker.start()

    faults = {"suspend": suspend, "kill_child": kill_child, "kill_worker": kill_worker}
    for _ in range(rounds):
        for _ in range(TASKS_PER_ROUND):
            publish()
        time.sleep(chance.random())
        fault = chance.choice(["suspend", "suspend", *faults])
        counts[fault] += 1
        faults[fault](chance.choice(workers))
        for worker in workers:
            if not worker.process.running:
                worker.start()
    active = Job.objects.filter(id__in=published, state__in=["queued", "running"])
    wait_until(
        lambda: Job.objects.filter(id__in=published).count() == len(published) and not active.exists(),
        timeout=180,
        every=0.2,
        what="all jobs to end",
    )
    jobs = Job.objects.filter(id__in=published)

    def find_wrongly_lost():
        ended = {line.partition(" ")[0] for line in ran.read_text().splitlines()}
        return [str(job.id) for job in jobs.all() if error_type(job) in GUESSES and str(job.id) in ended]

    with suppress(AssertionError):  # a guess may be corrected when the result backend is asked again
        wait_until(lambda: not find_wrongly_lost(), timeout=45, every=1, what="the corrections")
    told = list(Notification.objects.filter(user=user).values_list("job", "archived_at"))
    corrected = sum(log.read_text().count("Corrected a guess") for log in tmp_path.glob("celery-*.log"))
    states = Counter((job.state, error_type(job)) for job in jobs.all())
    print(f"{rounds} rounds: {dict(counts)}; {len(published)} tasks: {dict(states)}; corrected: {corrected}")
    assert find_wrongly_lost() == []
    shown = Counter(job for job, archived_at in told if archived_at is None)
    assert {job.id: shown[job.id] for job in jobs} == {job.id: 1 for job in jobs}
