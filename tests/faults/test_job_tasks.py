"""Processes of Celery are killed, and broker and database are away, while tasks of Celery are called whose calls are
jobs: no call and no message is lost, each runs as its options say, and its owner is notified once.

FAULT_ROUNDS=1 python -m pytest tests/faults/test_job_tasks.py -s     300 tasks, the outages of the long form
FAULT_SEED=…                                                          repeat the choices of a failed run
"""

import json
import os
import re
import sys
import threading
import time
from collections import Counter

import pytest

from tests.support.faults.engine import ROUNDS, SEED
from tests.support.postgres import Postgres
from tests.support.processes import Process
from tests.support.rabbitmq import RabbitMQ
from tests.support.redis_server import Redis
from tests.support.site import ROOT, START_TIMEOUT_SECONDS, Sites
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from tests.support.faults.celery_site import CelerySite, wait_for_worker

pytestmark = [pytest.mark.any_database, pytest.mark.nightly_names("*[rabbitmq-*", "*[redis-threads-*")]

TASKS = "tests.support.faults.job_tasks"
BROKER_AWAY_SECONDS, DATABASE_AWAY_SECONDS, CALLS, MESSAGES = (30, 20, 160, 60) if ROUNDS else (4, 3, 50, 20)
#: Seconds over which calls and messages are spread.
PUBLISHING_SECONDS = BROKER_AWAY_SECONDS + DATABASE_AWAY_SECONDS + 8
#: Seconds until all messages are jobs, and all jobs have ended, after the last fault.
END_SECONDS = 180
#: How often a task may be started whose message Celery has acknowledged before: once, and for each retry().
MAX_ATTEMPTS = {"once": 1, "tick": 1, "retried": 3}
KEYS = "SELECT idempotency_key, count(*) FROM notifications_job WHERE idempotency_key <> '' GROUP BY 1"


@pytest.fixture
def cluster():
    """A PostgreSQL cluster of this test, which it crashes."""
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def site(request, tmp_path):
    """The processes of a site, of which none is started. The parameter is the names of broker, pool and database."""
    broker, pool, database = request.param.split("-")
    cluster = request.getfixturevalue("cluster") if database == "postgresql" else None
    site = Sites(tmp_path, cluster).make()
    ((user_id,),) = site.rows("SELECT id FROM auth_user WHERE username = 'demo'")
    celery = {
        "imports": [TASKS],
        "worker_prefetch_multiplier": 1,
        "beat_max_loop_interval": 0.2,
        "beat_schedule": {"tick": {"task": f"{TASKS}.tick", "schedule": 0.7, "args": [user_id]}},
    }
    if broker == "redis":  # messages that are not acknowledged by then are delivered to another worker too
        celery["broker_transport_options"] = {
            "visibility_timeout": 2,
            "unacked_mutex_expire": 5,
            # By default those of a killed worker are looked for every 100 s. kombu 5.4 has no such options.
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
        }
    pools = [("--pool", pool, "--concurrency", "2")] * 2
    server = {"redis": Redis, "rabbitmq": RabbitMQ}[broker]()
    celery_site = CelerySite(site, "job tasks", broker=server, pools=pools, celery=celery, lease=4)
    celery_site.user_id, celery_site.cluster = user_id, cluster
    yield celery_site
    celery_site.close()


@pytest.mark.parametrize(
    "site",
    [
        "redis-prefork-postgresql",
        "redis-threads-postgresql",
        "rabbitmq-prefork-postgresql",
        "rabbitmq-threads-postgresql",
        "redis-threads-sqlite",  # where a worker refuses to start processes
        "rabbitmq-threads-sqlite",
    ],
    indirect=True,
)
@pytest.mark.timeout(900)
def test_calls_and_messages_end_once(site):
    site.start_pools()
    beat = start_beat(site)
    service = start_service(site)
    accepted = []
    pause = PUBLISHING_SECONDS / CALLS
    driver = site.start_driver("job_tasks")
    calls = threading.Thread(
        target=lambda: accepted.extend(driver.call("call_tasks", seed=SEED, count=CALLS, pause=pause))
    )
    calls.start()
    kill(site, times=3)
    site.proxy.cut()
    time.sleep(BROKER_AWAY_SECONDS)
    site.proxy.restore()
    kill(site, times=2)
    database_away(site)
    kill(site, times=2)
    calls.join()
    driver.stop()
    wait_until(lambda: not service.running, what="all messages to be sent", timeout=END_SECONDS)
    beat.stop()
    messages = service.output.split()
    assert len(messages) == MESSAGES, service.output
    wait_until_ended(site, messages)
    site.assert_invariants()
    assert_none_lost(site, accepted, messages, beat)
    assert_run_as_declared(site)


def start_beat(site):
    schedule = site.site.folder / "schedule"
    command = ["-m", "celery", "-A", "asyncsite", "beat", "--schedule", schedule, "--pidfile", ""]
    beat = site.site.start("beat", *command, "--loglevel", "INFO")
    beat.wait_for_line("Sending due task tick", timeout=START_TIMEOUT_SECONDS)
    return beat


def start_service(site):
    """Start a process without the project, which sends messages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")}
    arguments = [site.site.environment["CELERY_BROKER_URL"], site.user_id, MESSAGES]
    return Process(
        [
            *(sys.executable, "-m", "tests.support.faults.send_messages"),
            *(*arguments, PUBLISHING_SECONDS / MESSAGES),
        ],
        log=site.site.folder / "service.log",
        env=environment,
        cwd=ROOT,
    )


def kill(site, times):
    """Kill a child process, if there are any, or else a worker."""
    for number in range(times):
        time.sleep(site.rng.uniform(0.3, 1))
        if number % 2 == 0 and "prefork" in site.pools[0]:
            site.kill_child()
        else:
            site.kill_worker()
        site.restart_ended_workers()


def database_away(site):
    """Stop PostgreSQL and start it again, on SQLite hold the lock."""
    if site.cluster is None:
        with site.site.database_away():
            time.sleep(DATABASE_AWAY_SECONDS)
        return
    site.cluster.crash()
    time.sleep(DATABASE_AWAY_SECONDS)
    site.cluster.start()


def wait_until_ended(site, messages):
    def are_all_jobs():
        site.restart_ended_workers()
        return set(messages) <= {key for key, _ in site.site.rows(KEYS)}

    started = time.monotonic()
    for worker in site.workers:
        wait_for_worker(worker)
    wait_until(are_all_jobs, what="all messages to be jobs", timeout=END_SECONDS, every=0.2)
    site.wait_until_done(END_SECONDS)
    print(f"All ended after {time.monotonic() - started:.1f} s")


def assert_none_lost(site, accepted, messages, beat):
    """Check that each call, message and tick has its job, and no message two."""
    jobs = site.jobs()
    assert set(accepted) <= {job.id for job in jobs}
    assert {count for _, count in site.site.rows(KEYS)} == {1}
    ticks = len(re.findall("Sending due task tick", beat.output))
    of_beat = sum(job.task == "tick" for job in jobs)
    print(
        f"{len(accepted)} calls, {len(messages)} messages, {ticks} ticks with {of_beat} jobs; {len(jobs)} jobs"
    )
    assert ticks - 1 <= of_beat, "A tick was lost."  # the last one may be interrupted


def assert_run_as_declared(site):
    done = Counter(effect.job for effect in site.effects("done"))
    ends = Counter()
    for job in site.jobs():
        error = json.loads(job.error or "{}").get("type", "")
        ends[job.task, job.state, error] += 1
        assert job.attempt <= MAX_ATTEMPTS.get(job.task, job.max_attempts), job
        assert (job.state, error) in {("succeeded", ""), ("failed", "worker-lost")}, job
        if job.state == "succeeded":
            assert done[job.id], f"{job} succeeded without the effect of its task."
        else:
            assert job.task in MAX_ATTEMPTS, f"{job} has acks_late."
    print(f"Ends: {dict(ends)}; done twice: {sum(count > 1 for count in done.values())}")
    print(f"Workers that ended by themselves: {site.ended_by_themselves}")
