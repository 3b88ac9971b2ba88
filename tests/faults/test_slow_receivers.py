"""Fifty accounts whose receivers answer after nine seconds delay neither webhooks nor push messages of others.

python -m pytest tests/faults/test_slow_receivers.py -s -n 0     prints both waits
"""

import asyncio
import time
from contextlib import ExitStack

import pytest
from aiohttp import web

from tests.outbound.upstream import Upstream
from tests.support.driver import driver
from tests.support.faults.engine import Engine
from tests.support.push_service import browser_keys, vapid_key
from tests.support.waiting import wait_until

#: Accounts with slow receivers, what each is sent at once, and the seconds after which their receivers answer.
SLOW_ACCOUNTS, EVENTS_PER_ACCOUNT, ANSWER_SECONDS = 50, 20, 9.0
#: Others, who are notified once each: without slow accounts and beside them.
BYSTANDERS = 50
#: Seconds between two of these, so that they meet all moments of a round of slow answers.
PAUSE_SECONDS = 0.2
#: Seconds for which a bystander is waited for, and by which one may come later than without slow accounts: one that
#: waits for an answer comes up to ANSWER_SECONDS later.
MAX_WAIT_SECONDS, MAX_DELAY_SECONDS = 20.0, 7.0


class Receivers(Upstream):
    """The receivers of all, at one origin: the limit of calls to a host does not delay others either.

    ``arrivals``
        When a path was called first (monotonic).
    """

    def __init__(self):
        self.arrivals = {}
        super().__init__()

    async def _handle(self, request):
        self.arrivals.setdefault(request.path, time.monotonic())
        return await super()._handle(request)

    async def quick(self, request):
        return web.Response(status=201)

    async def slow(self, request):
        await asyncio.sleep(ANSWER_SECONDS)
        return web.Response(status=201)


@pytest.fixture
def receivers():
    receivers = Receivers()
    yield receivers
    receivers.close()


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_slow_receivers_delay_nobody(site, receivers):
    """The last of 50 webhooks, and of 50 push messages, waits for no answer of a slow one."""
    site.notifications |= {
        "SITE_URL": "https://site.example",
        "DELIVERY": {"*": [{"push": 0}]},
        "WEB_PUSH": {"private_key": vapid_key(), "subject": "mailto:admin@site.example"},
        "OUTBOUND_ALLOW": [receivers.address],
        "WEBHOOKS": True,
    }
    with ExitStack() as stack:
        stack.callback(Engine(site, "slow").close)
        site.change("tests.support.faults.quick_deliveries")
        actions = stack.enter_context(driver(site, "tests.support.faults.delivery_actions"))
        users = [user["key"] for user in actions.call("create_users", count=2 * BYSTANDERS + SLOW_ACCOUNTS)]
        bystanders, slow_accounts = users[: 2 * BYSTANDERS], users[2 * BYSTANDERS :]
        for user in bystanders:
            add_receivers(actions, user, receivers.url("/quick"))
        for user in slow_accounts:
            add_receivers(actions, user, receivers.url("/slow"))
        site.start_worker()
        before = measure_waits(actions, receivers, bystanders[:BYSTANDERS])
        for number in range(EVENTS_PER_ACCOUNT):
            actions.call("notify_users", users=slow_accounts, title=f"Event {number}")
        wait_until(lambda: receivers.active >= 10, timeout=30, what="slow receivers to be called")
        beside = measure_waits(actions, receivers, bystanders[BYSTANDERS:])
        print(f"{receivers.active} calls of slow receivers are open, at most {receivers.max_active} were")
    for kind in ("hook", "push"):
        alone, others = before[kind], beside[kind]
        print(
            f"{kind}: p50 {alone[len(alone) // 2]:.2f} s, p99 {alone[-1]:.2f} s alone; "
            f"p50 {others[len(others) // 2]:.2f} s, p99 {others[-1]:.2f} s beside slow receivers"
        )
    for kind in ("hook", "push"):
        assert beside[kind][-1] < before[kind][-1] + MAX_DELAY_SECONDS


def add_receivers(actions, user, url):
    """Give a user a webhook and a device, whose paths end with the user's key."""
    actions.call("create_webhook", user=user, url=f"{url}/hook-{user}")
    _, keys = browser_keys()
    actions.call("create_device", user=user, endpoint=f"{url}/push-{user}", **keys)


def measure_waits(actions, receivers, users):
    """Notify users one after the other; return, in order, the seconds until each webhook and push message came.

    ``MAX_WAIT_SECONDS`` for what has not come within that time.
    """
    started = {}
    for user in users:
        started[user] = time.monotonic()
        actions.call("notify_users", users=[user], title="Hello")
        time.sleep(PAUSE_SECONDS)
    paths = {kind: {f"/quick/{kind}-{user}": user for user in users} for kind in ("hook", "push")}
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline and not all(
        of_kind.keys() <= receivers.arrivals.keys() for of_kind in paths.values()
    ):
        time.sleep(0.05)
    return {
        kind: sorted(
            receivers.arrivals.get(path, started[user] + MAX_WAIT_SECONDS) - started[user]
            for path, user in of_kind.items()
        )
        for kind, of_kind in paths.items()
    }


@pytest.mark.timeout(300)
def test_hanging_receivers_take_no_slot_of_celery(site, receivers, redis):
    """Six users whose receivers answer after nine seconds; the job of another one starts as it does without them."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    site.notifications |= {
        "SITE_URL": "https://site.example",
        "OUTBOUND_ALLOW": [receivers.address],
        "WEBHOOKS": True,
    }
    with ExitStack() as stack:
        stack.callback(Engine(site, "celery").close)
        site.change("tests.support.faults.quick_deliveries")
        site.use_celery(redis.url)
        actions = stack.enter_context(driver(site, "tests.support.faults.delivery_actions"))
        jobs = stack.enter_context(driver(site, "tests.contrib.engines.actions"))
        users = [user["key"] for user in actions.call("create_users", count=6)]
        for user in users:
            actions.call("create_webhook", user=user, url=f"{receivers.url('/slow')}/{user}")
        site.start_celery("--pool", "threads", concurrency=2)
        alone = max(seconds_of_job(jobs) for _ in range(3))
        for number in range(EVENTS_PER_ACCOUNT):
            actions.call("notify_users", users=users, title=f"Event {number}")
        wait_until(lambda: receivers.active >= len(users), timeout=60, what="slow receivers to be called")
        beside = max(seconds_of_job(jobs) for _ in range(3))
        print(
            f"{receivers.active} calls are open; a job took {alone:.2f} s alone, {beside:.2f} s beside them"
        )
    assert beside < alone + 2


def seconds_of_job(jobs):
    """Enqueue a sync job, and return the seconds until it has ended."""
    started = time.monotonic()
    (id,) = jobs.call("enqueue", task="noop_sync")
    wait_until(lambda: jobs.call("rows", ids=[id])[0]["state"] == "succeeded", timeout=120, what="the job")
    return time.monotonic() - started
