"""Three servers and four Celery workers share only PostgreSQL and Redis: clients are told of each job once, in order.

FAULT_ROUNDS=1 python -m pytest tests/faults/test_celery_deployment.py -s     5,000 jobs and 50 clients
"""

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.driver import Driver
from tests.support.faults.audience import Audience, assert_received
from tests.support.faults.celery_site import wait_for_worker
from tests.support.faults.engine import ROUNDS, SEED
from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.redis_server import Redis
from tests.support.site import ROOT

pytestmark = pytest.mark.nightly

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

SERVERS, CELERY_WORKERS = 3, 4
JOBS, CLIENTS = (5000, 50) if ROUNDS else (500, 10)
#: Jobs in one transaction, and processes that enqueue at once.
JOBS_PER_TRANSACTION, ENQUEUERS = 25, 3
MAX_SECONDS = 600
COUNT_DONE = "SELECT count(*) FROM notifications_job WHERE state = 'succeeded'"


@pytest.fixture
def deployment(postgres_site):
    """The site's processes. Nothing is in a file that two of them use."""
    site = postgres_site
    redis = Redis()
    site.notifications["ACTIVE_JOBS_PER_USER"] = 10**5
    site.use_celery(f"{redis.url}")
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis.url]}}
    site.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.support.faults.celery_settings",
        "TEST_CHANNEL_LAYERS": json.dumps({"default": layer}),
        "FAULT_EFFECTS": "/dev/null",
    }
    site.ports = [free_port() for _ in range(SERVERS)]
    servers = [start_server(site, port) for port in site.ports]
    workers = [start_worker(site, number) for number in range(CELERY_WORKERS)]
    for server, port in zip(servers, site.ports, strict=True):
        server.wait_until(lambda port=port: is_listening(port), what="the server to listen", timeout=120)
    for worker in workers:
        wait_for_worker(worker)
    yield site
    site.close()
    redis.stop()


def start_server(site, port):
    env = site.env() | {"PORT": str(port)}
    command = (sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", port, "asyncsite.asgi:application")
    process = Process(command, log=site.folder / f"web-{port}.log", env=env, cwd=ROOT)
    site.processes.append(process)
    return process


def start_worker(site, number):
    """Start a worker with two processes, or, each second one, with four threads."""
    pool = (
        ("--pool", "threads", "--concurrency", 4) if number % 2 else ("--pool", "prefork", "--concurrency", 2)
    )
    command = ("-m", "celery", "-A", "asyncsite", "worker", "--loglevel", "INFO", "-n", f"w{number}@%h")
    return site.start("celery", *command, *pool)


@pytest.mark.timeout(MAX_SECONDS + 300)
def test_clients_are_told_once_and_in_order(deployment):
    drivers = [Driver(deployment, "tests.support.faults.celery_actions") for _ in range(ENQUEUERS)]
    users = [f"client{number}" for number in range(CLIENTS)]
    sessions = [drivers[0].call("open_session", user=user) for user in users]
    urls = [f"http://127.0.0.1:{port}" for port in deployment.ports]
    with Audience(sessions, urls, random.Random(SEED)) as audience, ThreadPoolExecutor(ENQUEUERS) as pool:
        started = time.monotonic()
        calls = [
            pool.submit(
                driver.call,
                "enqueue_for_users",
                users=users,
                count=JOBS // ENQUEUERS,
                size=JOBS_PER_TRANSACTION,
            )
            for driver in drivers
        ]
        count = sum(call.result() for call in calls)
        enqueued = time.monotonic()
        while deployment.rows(COUNT_DONE)[0][0] < count:
            assert time.monotonic() < started + MAX_SECONDS, "Not all jobs have ended."
            time.sleep(0.1)
        done = time.monotonic()
        for user, client in zip(users, audience.clients, strict=True):
            assert_received(client, drivers[0].call("notifications", user=user), timeout=60)
        received = time.monotonic()
    print(
        f"{count} jobs, {CLIENTS} clients: enqueued in {enqueued - started:.1f} s, done after {done - started:.1f} s "
        f"({count / (done - started):.0f} jobs/s), received after {received - started:.1f} s"
    )
    totals = deployment.rows(
        "SELECT count(*), count(DISTINCT job), max(attempt) "
        "FROM notifications_notification JOIN notifications_job ON notifications_job.id = job"
    )
    assert totals[0][:2] == (count, count)
    assert totals[0][2] == 1
    for driver in drivers:
        driver.stop()
