"""Workers and the server are killed while deliveries are made, decided, sent and recorded: none is lost or doubled.

    FAULT_ROUNDS=1000 python -m pytest tests/faults/test_deliveries.py     ten notifications a round
    FAULT_SEED=…                                                           repeat the choices of a failed run

Users see, read and archive notifications, replace them by others with the same key, change their preferences and pause
meanwhile. Servers of e-mail, push and webhooks refuse, hang and break connections. What was sent is judged by what
these servers have received, by when the users' requests began and ended, and by the attempts of the jobs.
"""

import json
import random
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.support.driver import driver
from tests.support.faults.engine import ROUNDS, SEED, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.quick_deliveries import WINDOW_SECONDS
from tests.support.faults.readers import STEPS, Readers
from tests.support.faults.recipients import recipients
from tests.support.faults.statement_faults import INSERT, OUTCOME
from tests.support.network import is_listening
from tests.support.push_service import vapid_key
from tests.support.waiting import wait_until

#: Seconds by which an archiving may be committed later than its time says.
COMMIT_SECONDS = 1.0
#: Messages that are refused for good at least. A worker may be killed before it has stored such an answer, and then
#: tries again rightly; of so many, most are stored.
MIN_REFUSED = 3
DELIVERIES = """
SELECT id, notification, user_id, channel, address, state, reason, error, job, attempted_at, ended_at
FROM notifications_deliveries_delivery ORDER BY id
"""
NOTIFICATIONS = """
SELECT id, user_id, category, title, raised, created_at, read_at, archived_at FROM notifications_notification
"""
JOBS = "SELECT id, task_path, state, attempt, max_attempts, started_at, args FROM notifications_job"
DIGESTS = """
SELECT id, args, run_after, attempt FROM notifications_job
WHERE task_path LIKE '%deliver_digest' AND kwargs = '{}'
"""
ATTEMPTS = "SELECT job_id, number, started_at, ended_at, outcome FROM notifications_attempt"


def parse_time(value):
    """Return a time of a row in seconds since 1970."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A delivery."""

    id: str
    notification: str
    user: object
    channel: str
    address: str
    state: str
    reason: str
    error: str
    job: str | None
    attempted_at: float | None
    ended_at: float | None

    @property
    def was_interrupted(self):
        return self.state in ("skipped", "failed") and self.attempted_at is not None


class Ledger:
    """The rows, the receipts and the acts after all has ended, and what contradicts the promises.

    It calls nothing that it judges.
    """

    def __init__(self, world):
        site, servers = world.site, world.servers
        self.problems, self.deaths, self.created = [], world.deaths, world.readers.created
        self.known_sent = world.known_sent
        self.users = {user["key"]: user for user in world.users}
        self.rows = [
            Row(
                **dict(
                    zip(("user", "channel", "address", "state", "reason", "error"), values[2:8], strict=True),
                    id=canonical(values[0]),
                    notification=canonical(values[1]),
                    job=values[8] and canonical(values[8]),
                    attempted_at=parse_time(values[9]),
                    ended_at=parse_time(values[10]),
                )
            )
            for values in site.rows(DELIVERIES)
        ]
        self.notifications = {
            canonical(id): {
                "user": user,
                "category": category,
                "number": int(title.split()[1].strip(".")),
                "raised": raised,
                "read_at": None if read_at == created_at else parse_time(read_at),
                "archived_at": parse_time(archived_at),
            }
            for id, user, category, title, raised, created_at, read_at, archived_at in site.rows(
                NOTIFICATIONS
            )
            if title.startswith("Number ")
        }
        self.by_number = {each["number"]: id for id, each in self.notifications.items()}
        self.jobs = {
            canonical(id): {
                "task": path.rpartition(".")[2] if "webhooks" not in path else "webhook",
                "state": state,
                "attempt": attempt,
                "max_attempts": max_attempts,
                "starts": [parse_time(started_at)],
                "lost": 0,
                "answered": [],
                "args": args,
            }
            for id, path, state, attempt, max_attempts, started_at, args in site.rows(JOBS)
        }
        for job, _, started_at, ended_at, outcome in site.rows(ATTEMPTS):
            found = self.jobs[canonical(job)]
            found["starts"].append(parse_time(started_at))
            if outcome == "lost":
                found["lost"] += 1
            else:
                found["answered"].append((parse_time(started_at), parse_time(ended_at)))
        for job in self.jobs.values():
            job["starts"] = sorted(filter(None, job["starts"]))
        # A retry changes the time of a job, after which the end of its window is not known any more.
        self.digests = {
            canonical(id): (int(json.loads(args)[0]), parse_time(run_after) if attempt <= 1 else None)
            for id, args, run_after, attempt in site.rows(DIGESTS)
        }
        self.seen = dict(site.rows("SELECT user_id, seen FROM notifications_stream"))
        self.mails, self.pushes = group(servers.mailbox.receipts), group(servers.pushes())
        self.webhooks = group(servers.receiver.receipts)
        self.refused = servers.mailbox.refused
        self.acts = world.readers.acts
        self.acts_of = defaultdict(list)
        for act in self.acts:
            self.acts_of[act.user].append(act)
        self.by_job = defaultdict(list)
        self.rows_of = defaultdict(list)
        for row in self.rows:
            self.by_job[row.job].append(row)
            self.rows_of[row.notification].append(row)

    def summary(self):
        ends = Counter(f"{row.channel} {row.state} {row.reason}".strip() for row in self.rows)
        lost = sum(job["lost"] for job in self.jobs.values())
        repeated = sum(
            len(each) > 1 for kind in (self.mails, self.pushes, self.webhooks) for each in kind.values()
        )
        return (
            f"{len(self.notifications)} notifications, {len(self.rows)} deliveries, {len(self.digests)} digests; "
            f"kills {dict(self.deaths)}; {lost} attempts lost, {repeated} messages received more than once, "
            f"{sum(row.was_interrupted for row in self.rows)} not sent again; {dict(sorted(ends.items()))}"
        )

    def find_problems(self):
        self.check_rows()
        self.check_ends()
        self.check_sent()
        self.check_repeated()
        self.check_times()
        self.check_digests()
        self.check_reasons()
        return self.problems

    def report(self, is_right, text):
        if not is_right:
            self.problems.append(text)

    def check_rows(self):
        """What was created exists once, with the deliveries of its category."""
        self.report(len(self.by_number) == len(self.notifications), "A notification exists twice.")
        missing = self.created - set(self.by_number)
        self.report(not missing, f"Notifications are lost: {sorted(missing)[:5]}")
        for id, each in self.notifications.items():
            rows = self.rows_of.get(id, [])
            devices = self.users[each["user"]]["devices"]
            channels = Counter(row.channel for row in rows)
            addresses = [row.address for row in rows if row.channel == "push"]
            expected = Counter({channel: 1 for step in STEPS[each["category"]] for channel in step})
            if "push" in expected and any(addresses):
                expected["push"] = len(devices)
                self.report(sorted(addresses) == sorted(devices), f"{id}: pushes go to {addresses}.")
            self.report(channels == expected, f"{id}: {dict(channels)} in place of {dict(expected)}.")
        unknown = set(self.rows_of) - set(self.notifications)
        self.report(not unknown, f"Deliveries without a notification: {unknown}")

    def check_ends(self):
        """Each has ended; it has failed only after an answer for good, or the last attempt of its job."""
        for row in self.rows:
            self.report(row.state in ("sent", "skipped", "failed") and row.ended_at, f"Not ended: {row}")
            if row.state == "failed":
                job = self.jobs[row.job]
                is_refused = row.id in self.refused or row.job in self.refused
                self.report(
                    is_refused or job["attempt"] >= job["max_attempts"], f"Failed for no reason: {row}"
                )
            elif row.state == "sent" or row.reason != "":
                self.report((row.state == "skipped") == bool(row.reason), f"Reason of another state: {row}")

    def check_sent(self):
        """What is sent was received, and of each webhook an event was received or its job has failed."""
        for row in self.rows:
            if row.state == "sent":
                self.report(self.receipts_of(row), f"Sent, but not received: {row}")
        jobs = Counter()
        for id, job in self.jobs.items():
            if job["task"] == "webhook":
                event = json.loads(job["args"])[0]
                jobs[event["notification"]["id"]] += 1
                is_received = id in self.webhooks or job["attempt"] >= job["max_attempts"]
                self.report(is_received, f"Webhook {id} was not received.")
        expected = Counter(
            id for id, each in self.notifications.items() if self.users[each["user"]]["has_webhook"]
        )
        self.report(jobs == expected, f"Webhooks: {dict((jobs - expected) + (expected - jobs))}")

    def receipts_of(self, row):
        """Return the receipts of the messages that had this delivery in them."""
        number = self.notifications[row.notification]["number"]
        if row.channel == "push":
            return self.pushes.get(f"{row.notification} {row.address}", [])
        found = [receipt for receipt in self.mails.get(row.id, []) if receipt.to == row.address]
        digest = self.mails.get(row.job, []) if row.job in self.digests else []
        # What a digest does not show is only counted.
        return found + [receipt for receipt in digest if number in receipt.numbers or receipt.hidden]

    def check_repeated(self):
        """A message was received again only after an attempt that was lost, or had no answer."""
        jobs = {row.id: row.job for row in self.rows} | {
            f"{row.notification} {row.address}": row.job for row in self.rows if row.channel == "push"
        }
        for kind in (self.mails, self.pushes, self.webhooks):
            for id, receipts in kind.items():
                job = self.jobs.get(jobs.get(id, id))
                self.report(job is not None, f"Received, but there is no such job: {id}")
                if job and len(receipts) > 1:
                    unanswered = sum(not receipt.was_answered for receipt in receipts)
                    self.report(
                        len(receipts) - 1 <= unanswered + job["lost"],
                        f"{id} was received {len(receipts)} times, {unanswered} unanswered, {job['lost']} lost.",
                    )
        ids = defaultdict(set)
        for id, receipts in self.mails.items():
            for receipt in receipts:
                for number in receipt.numbers:
                    ids[number].add(id)
        for number, found in ids.items():
            self.report(len(found) == 1, f"Number {number} is in the messages {found}.")

        self.report(len(self.refused) >= MIN_REFUSED, f"Only {len(self.refused)} were refused for good.")
        for id, refusals in self.refused.items():
            job = jobs.get(id, id)  # None if it was decided anew after its worker was killed
            attempts = self.jobs[job]["answered"] if job else []
            for refused_at in refusals:
                # Unless the worker was killed before it had stored that answer.
                is_stored = any(began_at <= refused_at <= ended_at for began_at, ended_at in attempts)
                later = [receipt for receipt in self.mails.get(id, []) if receipt.at > refused_at]
                later += [moment for moment in refusals if moment > refused_at]
                self.report(not (is_stored and later), f"{id} was sent again after it was refused for good.")

    def check_times(self):
        """Nothing was sent that had been seen, read, archived, switched off or paused when its attempt began.

        Nor what had been recorded as sent by then.
        """
        for row in self.rows:
            each = self.notifications[row.notification]
            starts = self.jobs[row.job]["starts"] if row.job else []
            for receipt in self.receipts_of(row):
                if receipt.hidden and each["number"] not in receipt.numbers:
                    continue
                began_at = max((start for start in starts if start <= receipt.at), default=None)
                if began_at is None:
                    self.report(False, f"Received before its job has begun: {row}")
                    continue
                is_new = began_at <= self.known_sent.get(row.id, began_at)
                self.report(is_new, f"Sent again after it was recorded as sent: {row}")
                for act in self.acts_of[each["user"]]:
                    if act.ended_at and act.ended_at < began_at and self.closes(act, each):
                        self.report(False, f"Sent after {act}, in an attempt of {began_at}: {row}")
                archived_at = each["archived_at"]
                is_archived = archived_at and archived_at + COMMIT_SECONDS < began_at
                self.report(not is_archived, f"Sent after it was archived: {row}")
                wishes = self.wishes(row, began_at, receipt.at)
                self.report(wishes != {"off"}, f"Sent although it was switched off: {row}")
                is_first = receipt is self.receipts_of(row)[0] and began_at == starts[0]
                pauses = self.values_at(each["user"], "pause", lambda act: act.value, began_at, receipt.at)
                is_paused = all(until is not None and until > receipt.at for until in pauses)
                self.report(not (is_first and pauses and is_paused), f"Sent in a pause: {row}")

    def closes(self, act, each):
        if act.kind == "see":
            return each["raised"] <= act.value
        return act.kind in ("read", "archive") and each["number"] in act.value

    def wishes(self, row, began_at, ended_at):
        """Return what the user may have chosen for a delivery in this time."""
        category = self.notifications[row.notification]["category"]
        found = self.values_at(
            row.user,
            "choose",
            lambda act: act.value[2] if act.value[:2] == (category, row.channel) else None,
            began_at,
            ended_at,
        )
        return found or {"default"}

    def values_at(self, user, kind, value_of, began_at, ended_at):
        """Return the values that the acts of a user may have set in a time; those of the user's thread are in order."""
        possible, nothing = set(), object()
        for act in self.acts_of[user]:
            value = value_of(act) if act.kind == kind else nothing
            if value is nothing or (kind == "choose" and value is None) or act.started_at > ended_at:
                continue
            if act.ended_at and act.ended_at < began_at:
                possible = {value}
            else:
                possible = (possible or {"default" if kind == "choose" else None}) | {value}
        return possible

    def check_digests(self):
        """There is one mail for each window of a user, with what was recorded as sent; none is in two."""
        windows = Counter(each for each in self.digests.values() if each[1] is not None)
        self.report(
            max(windows.values(), default=1) == 1, f"Two digests of one window: {windows.most_common(1)}"
        )
        for job, (user, due_at) in self.digests.items():
            self.report(due_at is None or due_at % WINDOW_SECONDS == 0, f"A window ends at {due_at}.")
            receipts = self.mails.get(job, [])
            rows = {self.notifications[row.notification]["number"]: row for row in self.by_job[job]}
            sent = {number for number, row in rows.items() if row.state == "sent"}
            if not receipts:
                self.report(not sent, f"The digest {job} was recorded as sent, and not received.")
                continue
            self.report(
                {receipt.to for receipt in receipts} == {self.users[user]["address"]}, f"{job}: address"
            )
            last = receipts[-1]
            if last.hidden:
                self.report(set(last.numbers) <= set(rows), f"The digest {job} has foreign notifications.")
                continue
            if sent:
                self.report(
                    set(last.numbers) == sent, f"The digest {job} has {last.numbers}, recorded {sent}."
                )
            for receipt in receipts:
                self.report(len(set(receipt.numbers)) == len(receipt.numbers), f"{job}: one is in it twice.")
                for number in set(receipt.numbers) - sent:
                    row = rows.get(number)
                    self.report(
                        row is not None and row.was_interrupted,
                        f"{number} is in the digest {job}, whose row is {row}",
                    )

    def check_reasons(self):
        """What was not sent has a reason that is true; if it was received all the same, the row says that it may be."""
        for row in self.rows:
            if row.state != "skipped":
                continue
            each = self.notifications[row.notification]
            self.report(self.is_true(row, each), f"Not true: {row} of {each}")
            if self.receipts_of(row):
                self.report(row.was_interrupted, f"Received, and recorded as not sent: {row}")

    def is_true(self, row, each):
        started = [act for act in self.acts_of[row.user] if act.started_at <= row.ended_at]
        match row.reason:
            case "seen":
                has_seen = any(act.kind == "see" and act.value >= each["raised"] for act in started)
                return has_seen and self.seen[row.user] >= each["raised"]
            case "read":
                return each["read_at"] is not None and each["read_at"] <= row.ended_at
            case "archived":
                return each["archived_at"] is not None and each["archived_at"] <= row.ended_at
            case "off":
                return "off" in self.wishes(row, row.ended_at - COMMIT_SECONDS, row.ended_at)
            case "no-address":
                return not self.users[row.user]["devices"]
        return False


def group(receipts):
    """Return receipts by the ids of their messages, in their order."""
    grouped = defaultdict(list)
    for receipt in sorted(receipts, key=lambda receipt: receipt.at):
        grouped[receipt.id].append(receipt)
    return dict(grouped)


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
        site.change("tests.support.faults.quick_deliveries")
        self.readers = None

    def start(self):
        with driver(self.site, "tests.support.faults.delivery_actions") as actions:
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
