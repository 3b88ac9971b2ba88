"""No server of e-mail, push or webhooks answers: jobs of the project start as before, and afterwards all arrives once.

FAULT_ROUNDS=1 python -m pytest tests/faults/test_silent_receivers.py -s     10,000 deliveries, silence for a minute
"""

import time
from collections import Counter
from contextlib import ExitStack
from datetime import datetime

import pytest

from tests.support.driver import driver
from tests.support.faults.engine import ROUNDS, Engine
from tests.support.faults.recipients import Moods, MoodyMailbox, MoodyReceiver
from tests.support.network import SilentProxy
from tests.support.push_service import browser_keys, push_service, vapid_key
from tests.support.smtp_server import smtp_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

#: Users with an e-mail address each. The first have devices and webhooks, the others have no device.
USERS = 5_000 if ROUNDS else 150
ORIGINS, ENDPOINTS, ENDPOINTS_PER_USER = 20, 30, 10
SILENT_SECONDS = 60 if ROUNDS else 6
MAX_P99_SECONDS = 5.0
WAITS = """
SELECT task_path, queued_at, started_at FROM notifications_job
WHERE state = 'succeeded' AND substr(task_path, 1, 6) = 'tests.'
"""
STATES = """
SELECT channel, state, reason, count(*) FROM notifications_deliveries_delivery GROUP BY channel, state, reason
"""
OPEN = """
SELECT (SELECT count(*) FROM notifications_deliveries_delivery WHERE state IN ('pending', 'queued'))
     + (SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running'))
"""


class World:
    """A site with a worker, and servers that are silent until ``answer()``."""

    def __init__(self, site, stack):
        calm = Moods(None)
        calm.is_calm = True
        self.mailbox = stack.enter_context(smtp_server(MoodyMailbox(calm)))
        self.service = stack.enter_context(push_service())
        self.receiver = MoodyReceiver(calm)
        stack.callback(self.receiver.close)
        self.smtp, *proxies = [
            stack.enter_context(SilentProxy(port))
            for port in (self.mailbox.port, *[self.service.port] * ORIGINS, *[self.receiver.port] * ENDPOINTS)
        ]
        self.push, self.hooks = proxies[:ORIGINS], proxies[ORIGINS:]
        site.notifications |= {
            "SITE_URL": "https://site.example",
            "DELIVERY": {"*": [{"push": 0}, {"email": 0}]},
            "WEB_PUSH": {"private_key": vapid_key(), "subject": "mailto:admin@site.example"},
            "OUTBOUND_ALLOW": [proxy.address for proxy in proxies],
            "WEBHOOKS": True,
        }
        self.site = site
        self.engine = Engine(site, "silence", EMAIL_URL=f"smtp://{self.smtp.address}")
        stack.callback(self.engine.close)
        site.change("tests.support.faults.quick_deliveries")

    def notify(self):
        """Create the users with what is sent to them."""
        with driver(self.site, "tests.support.faults.delivery_actions") as actions:
            self.users = actions.call("create_users", count=USERS)
            for number, proxy in enumerate(self.push):
                private, keys = browser_keys()
                endpoint = f"{proxy.url}/{number}"
                device = actions.call("create_device", user=self.users[0]["key"], endpoint=endpoint, **keys)
                self.service.private_keys[f"/{number}"] = private, device
            for number, proxy in enumerate(self.hooks):
                user = self.users[1 + number // ENDPOINTS_PER_USER]
                actions.call("create_webhook", user=user["key"], url=f"{proxy.url}/hook")
            actions.call("notify_all", title="Number 1.")

    def answer(self):
        for proxy in (self.smtp, *self.push, *self.hooks):
            proxy.may_answer.set()

    def measure_waits(self, seconds):
        """Enqueue a sync and an async job again and again for some time; return how long each waited."""
        until = time.monotonic() + seconds
        count = 0
        while time.monotonic() < until:
            self.engine.enqueue("noop", user=None)
            self.engine.enqueue("noop_sync", user=None)
            count += 2
            time.sleep(0.1)
        wait_until(lambda: len(self.site.rows(WAITS)) >= count, timeout=60, what=f"{count} jobs to succeed")
        return sorted(
            (as_seconds(started) - as_seconds(queued)) for _, queued, started in self.site.rows(WAITS)
        )


def count(proxies):
    """Return how many connections these have taken."""
    return sum(proxy.connections for proxy in proxies)


def as_seconds(moment):
    """Return a time of either database in seconds."""
    return (moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)).timestamp()


@pytest.fixture
def world(site):
    with ExitStack() as stack:
        yield World(site, stack)


@pytest.mark.timeout(300 + 900 * ROUNDS)
def test_jobs_do_not_wait_for_silent_receivers(world):
    """Neither those with a thread nor those with a slot; and each message arrives once when its server answers."""
    world.notify()
    world.site.start_worker()
    wait_until(lambda: world.smtp.connections >= 4, timeout=60, what="e-mails to hang")
    wait_until(lambda: count(world.push), timeout=60, what="a push message to hang")
    wait_until(lambda: count(world.hooks) >= 24, timeout=60, what="webhooks to hang")
    waits = world.measure_waits(SILENT_SECONDS)
    p99 = waits[int(len(waits) * 0.99)]
    print(
        f"{len(waits)} jobs beside silent receivers waited {waits[len(waits) // 2]:.3f} s (p50), {p99:.3f} s (p99)"
    )
    print(world.site.rows(STATES))
    world.answer()
    started = time.monotonic()
    try:
        wait_until(
            lambda: not world.site.rows(OPEN)[0][0], timeout=240 + 600 * ROUNDS, every=0.3, what="all to end"
        )
    finally:
        print(world.site.rows(STATES), f"{time.monotonic() - started:.0f} s after the servers answer")
    assert p99 < MAX_P99_SECONDS
    mails = Counter(receipt.id for receipt in world.mailbox.receipts)
    assert len(mails) == USERS and set(mails.values()) == {1}
    pushes = Counter(
        (message.device, message.message["notification"]["tag"]) for message in world.service.messages
    )
    assert len(pushes) == ORIGINS and set(pushes.values()) == {1}
    events = Counter(receipt.id for receipt in world.receiver.receipts)
    assert len(events) == ENDPOINTS and set(events.values()) == {1}
    rows = "notifications_deliveries_delivery WHERE channel = 'push' AND reason = 'no-address'"
    assert world.site.rows(f"SELECT count(*) FROM {rows}")[0][0] == USERS - 1
