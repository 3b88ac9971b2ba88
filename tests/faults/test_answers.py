"""Three people answer the same questions at once, while workers and the server are killed."""

import http.client
import json
import threading
import time
from collections import Counter, defaultdict

import pytest

from tests.faults.support.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.faults.support.statement_faults import INSERT
from tests.support.driver import driver
from tests.support.waiting import wait_until

JOBS_PER_ROUND, VALUES, TOKEN = 6, ("a", "b", "c"), "t" * 32
#: Rounds after which a worker may end all jobs.
ROUNDS_IN_A_ROW = 10
#: Statements at which a worker dies: of a suspension with its notifications, and of the step after the answer.
STATEMENTS = [r"state='waiting', waiting=", *map(INSERT.format, ("wait", "notification", "step"))]
WAITS = "SELECT id, job, how, value FROM notifications_wait"
OPEN_WAITS = f"{WAITS} WHERE ended_at IS NULL"
NOTIFICATIONS = "SELECT job, user_id, read_at, open_question, data FROM notifications_notification"


@pytest.fixture
def engine(site):
    engine = Engine(site, "answers")
    yield engine
    engine.close()


class Person(threading.Thread):
    """Answers each question that is open, always with the same value, again while the server gives no response."""

    def __init__(self, site, session, value):
        super().__init__(daemon=True)
        self.site, self.session, self.value = site, session, value
        self.statuses = {}
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(0.02):
            for id, job, *_ in self.site.rows(OPEN_WAITS):
                if id not in self.statuses and (status := self.answer(canonical(job), canonical(id))):
                    self.statuses[id] = status

    def answer(self, job, id):
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=TIMEOUT_SECONDS)
        headers = {
            "Cookie": f"sessionid={self.session}; csrftoken={TOKEN}",
            "X-CSRFToken": TOKEN,
            "Content-Type": "application/json",
        }
        path = f"/notifications/api/jobs/{job}/answers/{id}/"
        try:
            connection.request("POST", path, json.dumps({"value": self.value}), headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_one_answer_counts(engine):
    """Each job ends with the answer that was stored, of which at most one person is told that it counts."""
    site, rng = engine.site, engine.rng
    with driver(site) as accounts:
        users = accounts.call("create_users", count=3)
    keys = [user["user"] for user in users]
    site.start_web()
    people = [Person(site, user["sessions"][0], value) for user, value in zip(users, VALUES, strict=True)]
    for person in people:
        person.start()
    kills = Counter()
    for number in range(1, (ROUNDS or 4) + 1):
        engine.enqueue("ask_and_pay", JOBS_PER_ROUND, args=[keys])
        fault = f"SIGKILL {rng.choice(['before', 'after'])} {rng.choice(STATEMENTS)}"
        worker = engine.start_worker(fault=fault)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(1, 4))
            site.web.kill()
            kills["web"] += 1
            site.start_web()
        wait_until(
            lambda worker=worker: not worker.running, timeout=TIMEOUT_SECONDS, what="the worker to die"
        )
        kills["worker"] += 1
        # Otherwise the same job ends each worker, until it has no attempt left.
        if number % ROUNDS_IN_A_ROW == 0:
            worker = engine.start_worker()
            engine.wait_until_done()
            worker.stop()
    site.start_worker()
    engine.wait_until_done()
    for person in people:
        person.is_over.set()
        person.join(TIMEOUT_SECONDS)
    engine.wait_until_numbered()
    assert "which is a defect" not in site.log()

    engine.assert_attempts(engine.jobs())
    engine.assert_statistics(engine.jobs())
    jobs = {job.id: job for job in engine.jobs()}
    assert {job.state for job in jobs.values()} == {"succeeded"}
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
