"""What became of notifications after all has ended, and what of it contradicts the promises of deliveries.

It knows the rows, what servers have received, and what users have done; it calls nothing that it judges.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.faults.support.engine import canonical
from tests.faults.support.quick_deliveries import WINDOW_SECONDS
from tests.faults.support.readers import STEPS

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
    """The rows, the receipts and the acts after all has ended, and what contradicts the promises."""

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
            attempts = self.jobs[jobs.get(id, id)]["answered"]
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
