"""Workers and the server are killed while deliveries are made, decided, sent and recorded: none is lost or doubled.

    FAULT_ROUNDS=1000 python -m pytest tests/faults/test_deliveries.py     ten notifications a round
    FAULT_SEED=…                                                           repeat the choices of a failed run

Users see, read and archive notifications, replace them by others with the same key, change their preferences and pause
meanwhile. Servers of e-mail, push and webhooks refuse, hang and break connections. What was sent is judged by what
these servers have received, by when the users' requests began and ended, and by the attempts of the jobs.
"""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from tests.faults.support.delivery_ledger import Ledger
from tests.faults.support.engine import ROUNDS, SEED, TIMEOUT_SECONDS, Engine, canonical
from tests.faults.support.readers import STEPS, Readers
from tests.faults.support.recipients import recipients
from tests.faults.support.statement_faults import INSERT, OUTCOME
from tests.support.driver import driver
from tests.support.network import is_listening
from tests.support.push_service import vapid_key
from tests.support.waiting import wait_until

COUNT = max(10 * ROUNDS, 40)
USER_COUNT = 12 + COUNT // 200
WORKERS, CONCURRENCY = 2, 8
#: Each third user has a webhook. The number of devices of a user is the remainder by this number too.
MAX_DEVICES = 3
#: The mail server refuses for good whatever goes to each second user, so that a run has many refusals.
REJECTED_USERS = 2
DECISION = r"UPDATE .?notifications_deliveries_delivery.? SET .*address"
RECORD = r"UPDATE .?notifications_deliveries_delivery.? SET .* \('', (Delivery\.State\.SENT|'sent')"
CLOSE = r"UPDATE .?notifications_deliveries_throttle.? SET .*joined_since"
#: The statements at which workers die, at the first to the fourth of each process.
MOMENTS = (
    f"SIGKILL before {{}}x {DECISION}",
    f"SIGKILL after {{}}x {DECISION}",
    f"KILL_BEFORE_COMMIT after {{}}x {DECISION}",
    f"KILL_AFTER_COMMIT after {{}}x {DECISION}",
    f"SIGKILL before {{}}x {RECORD}",
    f"SIGKILL after {{}}x {RECORD}",
    f"KILL_BEFORE_COMMIT after {{}}x {RECORD}",
    f"KILL_AFTER_COMMIT after {{}}x {RECORD}",
    f"SIGKILL before {{}}x {INSERT.format('job')}",
    f"SIGKILL after {{}}x {INSERT.format('job')}",
    f"SIGKILL after {{}}x {OUTCOME}",
    f"SIGKILL after 1x {CLOSE}",
    "SIGKILL before 1x " + INSERT.format("deliveries_delivery"),
    "SIGKILL after 1x " + INSERT.format("deliveries_delivery"),
)
#: How many of them the short form takes, other ones by each seed.
SHORT_MOMENTS = 7
#: Of the server, which creates the notifications. It dies at no statement of its own start.
SERVER_MOMENTS = tuple(
    f"{moment} {{}}x {INSERT.format('deliveries_delivery')}"
    for moment in ("SIGKILL before", "SIGKILL after", "KILL_AFTER_COMMIT after")
)
#: Seconds that a worker, and a server, lives at most.
MAX_WORKER_SECONDS, MAX_SERVER_SECONDS = 4.0, 12.0
OPEN = """
SELECT (SELECT count(*) FROM notifications_deliveries_delivery WHERE state IN ('pending', 'queued'))
     + (SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running'))
     + (SELECT count(*) FROM notifications_notification WHERE seq IS NULL)
"""


@pytest.fixture
def world(site):
    with recipients(f"{SEED} moods") as servers:
        world = World(site, servers)
        yield world
        world.close()


@pytest.mark.timeout(600 + 10 * ROUNDS)
def test_kills(world):
    """Each delivery that the rules require exists once, ends, and is sent unless there is a true reason against it."""
    world.start()
    world.kill_until_done()
    world.converge()
    problems, summary = find_problems(world)
    print(summary)
    assert not problems, summary


def find_problems(world):
    """Return what contradicts the promises, and a text of it."""
    ledger = Ledger(world)
    # What has not ended is not the cause.
    problems = sorted(ledger.find_problems(), key=lambda text: text.startswith("Not ended"))
    heading = [f"FAULT_SEED={SEED}: {len(problems)} problems"] if problems else []
    return problems, "\n".join([ledger.summary(), *heading, *problems[:40]])


class World:
    """A site, its users, the servers to which it sends, and the workers and the server that are killed."""

    def __init__(self, site, servers):
        self.site, self.servers = site, servers
        self.rng = random.Random(f"{SEED} deliveries")
        self.moments = list(MOMENTS) if ROUNDS else self.rng.sample(MOMENTS, SHORT_MOMENTS)
        self.deaths, self.used_up, self.known_sent = Counter(), set(), {}
        addresses = [servers.receiver.address, f"127.0.0.1:{servers.service.port}"]
        keys = {"private_key": vapid_key(), "subject": "mailto:admin@site.example"}
        site.notifications |= {
            "SITE_URL": "https://site.example",
            "DELIVERY": STEPS,
            "CATEGORIES": {"digest": {"default": {"email": "hourly"}}},
            "WEB_PUSH": keys,
            "OUTBOUND_ALLOW": addresses,
            "OUTBOUND_PER_HOST": 50,
            "WEBHOOKS": True,
        }
        self.engine = Engine(site, "deliveries", EMAIL_URL=f"smtp://127.0.0.1:{servers.mailbox.port}")
        site.change("tests.faults.support.quick_deliveries")
        self.readers = None

    def start(self):
        with driver(self.site, "tests.faults.support.delivery_actions") as actions:
            self.users = actions.call("create_users", count=USER_COUNT)
            for number, user in enumerate(self.users):
                count = number % MAX_DEVICES
                user["devices"] = [self.servers.create_device(actions, user["key"]) for _ in range(count)]
                user["has_webhook"] = number % 3 == 0
                if number % REJECTED_USERS == 0:
                    self.servers.mailbox.rejected_addresses.add(user["address"])
                if user["has_webhook"]:
                    actions.call("create_webhook", user=user["key"], url=self.servers.receiver.url("/hook"))
        self.site.start_web()
        self.readers = Readers(self.site, self.users, COUNT, SEED)

    def kill_until_done(self):
        """Kill and replace both workers and the server until all was created and each moment has come."""
        with ThreadPoolExecutor(WORKERS + 1) as threads:
            killing = [threads.submit(self._kill_workers, number) for number in range(WORKERS)]
            killing.append(threads.submit(self._kill_servers))
            for each in as_completed(killing):
                if each.exception():
                    self.readers.stop()
            for each in killing:
                each.result()
        assert not self.readers.problems, self.readers.problems

    def converge(self):
        """Wait until nothing is open, as long as less is open each minute.

        What stays open for longer may be tried again although it must not be: the error then has all problems.
        """
        self.readers.stop()
        self.servers.moods.is_calm = True
        workers = [self.engine.start_worker("--concurrency", str(CONCURRENCY)) for _ in range(WORKERS)]
        try:
            while left := self.count_open():
                wait_until(
                    lambda left=left: self.count_open() < left,
                    timeout=TIMEOUT_SECONDS,
                    every=0.2,
                    what=f"less than {left} open deliveries and jobs",
                )
        except AssertionError as exc:
            for worker in workers:
                worker.kill()
            raise AssertionError(f"{exc}\n{find_problems(self)[1]}") from exc
        for worker in workers:
            worker.stop()

    def count_open(self):
        return self.site.rows(OPEN)[0][0]

    def close(self):
        if self.readers:
            self.readers.stop()
        self.engine.close()

    def _kill_workers(self, number):
        rng = random.Random(f"{SEED} workers {number}")
        moments = self.moments[number::WORKERS]
        while moments or not self.readers.are_done:
            moment = moments.pop() if moments else rng.choice([*MOMENTS, "", "", ""])
            if not moments:
                self.used_up.add(number)
            if len(self.used_up) == WORKERS:
                self.readers.may_end.set()
            fault = moment.format(rng.randint(1, 4))
            worker = self.engine.start_worker("--concurrency", str(CONCURRENCY), fault=fault)
            wait_until(
                lambda worker=worker: "runs" in worker.output or not worker.running,
                timeout=TIMEOUT_SECONDS,
                what="the worker to start",
            )
            self._wait_for_death(worker, MAX_WORKER_SECONDS * (1 if moment else rng.random()))
            self.deaths[moment.split(" SET ")[0] if not worker.running else "from outside"] += 1
            worker.kill()
            self._remember_sent()
            assert worker.popen.returncode == -9, worker.output

    def _remember_sent(self):
        """Store when deliveries were first found recorded as sent, before the jobs of a killed worker run again."""
        now = time.time()
        for (id,) in self.site.rows("SELECT id FROM notifications_deliveries_delivery WHERE state = 'sent'"):
            self.known_sent.setdefault(canonical(id), now)

    def _kill_servers(self):
        rng = random.Random(f"{SEED} servers")
        while not self.readers.are_done:
            web = self.site.web
            self._wait_for_death(web, MAX_SERVER_SECONDS * rng.uniform(0.2, 1))
            self.deaths["server at a statement" if not web.running else "server from outside"] += 1
            web.kill()
            fault = rng.choice(SERVER_MOMENTS).format(rng.randint(1, 20)) if rng.random() < 0.7 else ""
            with self.engine.fault_of_next_process(fault):
                self.site.launch_web()
            wait_until(
                lambda: is_listening(self.site.port) or not self.site.web.running,
                timeout=TIMEOUT_SECONDS,
                what="the server to listen",
            )

    def _wait_for_death(self, process, seconds):
        until = time.monotonic() + seconds
        while process.running and time.monotonic() < until and not self.readers.are_done:
            time.sleep(0.02)
