"""Three people answer the same questions at once, each at another server, while processes are killed.

FAULT_ROUNDS=100 python -m pytest tests/faults/test_answers.py     rounds of the long form, of each test
FAULT_KINDS=postgresql,kill_child                                  only these faults, of Celery's
"""

import http.client
import json
import os
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager, nullcontext, suppress

import psycopg
import pytest

from tests.support.driver import driver
from tests.support.faults.celery_site import CelerySite
from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.statement_faults import INSERT
from tests.support.network import free_port, is_listening
from tests.support.postgres import Postgres
from tests.support.site import START_TIMEOUT_SECONDS, Sites
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

KINDS = tuple(filter(None, os.environ.get("FAULT_KINDS", "").split(",")))
JOBS_PER_ROUND, VALUES, TOKEN = 6, ("a", "b", "c"), "t" * 32
#: Rounds after which a worker may end all jobs.
ROUNDS_IN_A_ROW = 10
#: Seconds until all jobs have ended that Celery runs.
CELERY_TIMEOUT_SECONDS = 600
#: Faults of one round at most, beside the worker that dies, and seconds before each.
MAX_FAULTS, MAX_PAUSE_SECONDS = 2, 2.0
#: Statements at which a worker dies: of a suspension with its notifications, and of the step after the answer.
STATEMENTS = [r"state='waiting', waiting=", *map(INSERT.format, ("wait", "notification", "steps_step"))]
WAITS = "SELECT id, job, how, value FROM notifications_wait"
OPEN_WAITS = f"{WAITS} WHERE ended_at IS NULL"
TRACEBACKS = "SELECT traceback FROM notifications_attempt WHERE traceback <> ''"
NOTIFICATIONS = "SELECT job, user_id, read_at, open_question, data FROM notifications_notification"


@pytest.fixture
def engine(site):
    engine = Engine(site, "answers")
    yield engine
    engine.close()


@pytest.fixture
def cluster():
    """A PostgreSQL cluster of this test, which it may crash."""
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def postgres_engine(tmp_path, cluster):
    engine = Engine(Sites(tmp_path, cluster).make(), "answers on PostgreSQL")
    yield engine
    engine.close()
    engine.site.close()


@pytest.fixture
def celery_site(tmp_path, cluster):
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    celery_site = CelerySite(Sites(tmp_path, cluster).make(), "answers through Celery")
    yield celery_site
    celery_site.close()


class Server:
    """A web process of a site, on a port of its own."""

    def __init__(self, site):
        self.site, self.port = site, free_port()
        self.start()
        self.process.wait_until(
            lambda: is_listening(self.port), what="the server to listen", timeout=START_TIMEOUT_SECONDS
        )

    def start(self):
        """Start the process, without waiting for it."""
        self.process = self.site.start(
            "web", "-m", "daphne", "-b", "127.0.0.1", "-p", self.port, "asyncsite.asgi:application"
        )

    def restart(self):
        self.process.kill()
        self.start()


class Person(threading.Thread):
    """Answers each question that is open, always with the same value, again while the server gives no response."""

    def __init__(self, site, port, session, value):
        super().__init__(daemon=True)
        self.site, self.port, self.session, self.value = site, port, session, value
        self.statuses = {}
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(0.02):
            with suppress(psycopg.OperationalError):
                self.answer_all()

    def answer_all(self):
        for id, job, *_ in self.site.rows(OPEN_WAITS):
            if id not in self.statuses and (status := self.answer(canonical(job), canonical(id))):
                self.statuses[id] = status

    def answer(self, job, id):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        headers = {
            "Cookie": f"sessionid={self.session}; csrftoken={TOKEN}",
            "X-CSRFToken": TOKEN,
            "Content-Type": "application/json",
        }
        path = f"/notifications/api/jobs/{job}/answers/{id}/"
        try:
            connection.request("POST", path, json.dumps({"value": self.value}), headers)
            status = connection.getresponse().status
            # 503: without the database the server knows nothing.
            return None if status == 503 else status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_one_answer_counts(engine):
    """Each job ends with the answer that was stored, of which at most one person is told that it counts."""
    answer_while(engine, {})


@pytest.mark.any_database
@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_one_answer_counts_while_postgresql_crashes(postgres_engine, cluster):
    answer_while(postgres_engine, {"postgresql": lambda: crash(cluster, postgres_engine.rng)})


@pytest.mark.any_database
@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_one_answer_counts_through_celery(celery_site, cluster):
    """Beside the servers and PostgreSQL, processes of Celery's workers and Redis are killed, and messages lost."""
    celery_site.start_pools()
    kinds = ("kill_worker", "kill_child", "restart_worker", "kill_redis", "lose_messages", "double_messages")
    faults = {kind: getattr(celery_site, kind) for kind in kinds}
    faults["postgresql"] = lambda: crash(cluster, celery_site.rng)
    faults = {kind: fault for kind, fault in faults.items() if not KINDS or kind in KINDS}
    answer_while(celery_site, faults, nullcontext, CELERY_TIMEOUT_SECONDS)


def crash(cluster, rng):
    cluster.crash()
    time.sleep(rng.uniform(0, 1))
    cluster.start()


@contextmanager
def dying_worker(engine):
    """Start a worker, and wait at the end until it has died at a statement."""
    fault = f"SIGKILL {engine.rng.choice(['before', 'after'])} {engine.rng.choice(STATEMENTS)}"
    worker = engine.start_worker(fault=fault)
    yield
    wait_until(lambda: not worker.running, timeout=TIMEOUT_SECONDS, what="the worker to die")


@contextmanager
def ending_worker(engine):
    worker = engine.start_worker()
    yield
    worker.stop()


@contextmanager
def answering(people):
    """Have people answer until the end of the block, also of one that fails: later tests have other databases."""
    for person in people:
        person.start()
    try:
        yield
    finally:
        for person in people:
            person.is_over.set()
        for person in people:
            person.join(TIMEOUT_SECONDS)


def answer_while(engine, faults, worker_of=None, timeout=TIMEOUT_SECONDS):
    """Ask in each round while ``faults``, functions by name, happen at random times, and check the ends of all jobs.

    With ``worker_of`` the workers run already.
    """
    site, rng = engine.site, engine.rng
    with driver(site) as accounts:
        users = accounts.call("create_users", count=3)
    keys = [user["user"] for user in users]
    servers = [Server(site) for _ in users]
    faults = faults | {"web": lambda: rng.choice(servers).restart()}
    people = [
        Person(site, server.port, user["sessions"][0], value)
        for server, user, value in zip(servers, users, VALUES, strict=True)
    ]
    kills = Counter()
    with answering(people):
        for number in range(1, (ROUNDS or 2) + 1):
            engine.enqueue("ask_and_pay", JOBS_PER_ROUND, args=[keys])
            with (worker_of or dying_worker)(engine):
                for name in rng.choices(list(faults), k=rng.randint(0, MAX_FAULTS)):
                    time.sleep(rng.uniform(0, MAX_PAUSE_SECONDS))
                    faults[name]()
                    kills[name] += 1
            if not worker_of:
                kills["worker"] += 1
            # Otherwise the same job ends each worker, until it has no attempt left.
            if number % ROUNDS_IN_A_ROW == 0:
                with (worker_of or ending_worker)(engine):
                    engine.wait_until_done(timeout)
                print(f"{number} rounds, {dict(kills)}", flush=True)
        with (worker_of or ending_worker)(engine):
            engine.wait_until_done(timeout)
    engine.wait_until_numbered()
    assert "which is a defect" not in site.log()

    engine.assert_attempts(engine.jobs())
    engine.assert_statistics(engine.jobs())
    jobs = {job.id: job for job in engine.jobs()}
    assert {job.state for job in jobs.values()} == {"succeeded"}, site.rows(TRACEBACKS)
    waits = {canonical(job): (id, json.loads(value)) for id, job, how, value in site.rows(WAITS)}
    assert {job: job_row.result for job, job_row in jobs.items()} == {
        job: json.dumps(value) for job, (_, value) in waits.items()
    }
    statuses = defaultdict(Counter)
    for person in people:
        for id, status in person.statuses.items():
            statuses[id][status] += 1
            assert status in (200, 409)
            assert status != 200 or (id, person.value) in waits.values()
    assert all(counts[200] <= 1 for counts in statuses.values())
    assert sum(counts[200] for counts in statuses.values()) > len(jobs) / 2
    assert sum(counts[409] for counts in statuses.values()) > 0
    paid = Counter((effect.job, effect.event) for effect in engine.effects())
    assert paid.keys() == {(job, f"paid-{value}") for job, (_, value) in waits.items()}
    told, ends = Counter(), Counter()
    for job, user, read_at, open_question, data in site.rows(NOTIFICATIONS):
        if question := json.loads(data).get("question"):
            told[canonical(job), user] += 1
            assert read_at and open_question is None
            assert question["ended"]["value"] == waits[canonical(job)][1]
        else:
            ends[canonical(job)] += 1
    assert told == Counter((job, user) for job in jobs for user in keys)
    assert ends == Counter(list(jobs))
    print(f"{len(jobs)} questions, kills: {dict(kills)}, {sum(c.total() for c in statuses.values())} answers")
