"""Servers answer while PostgreSQL is away for longer than a lease: no message goes twice, although two workers live."""

import asyncio
import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from aiohttp import web

from tests.contrib.webhooks.endpoints.receiver import Receiver
from tests.support.driver import driver
from tests.support.faults.engine import Engine
from tests.support.postgres import Postgres
from tests.support.push_service import browser_keys, push_service, vapid_key
from tests.support.site import Sites
from tests.support.smtp_server import Mailbox, smtp_server
from tests.support.waiting import wait_until

# The test starts its own cluster, whatever the database of the test run is.
pytestmark = pytest.mark.any_database

LEASE = 2
USERS = 6
OPEN = """
SELECT (SELECT count(*) FROM notifications_deliveries_delivery WHERE state IN ('pending', 'queued'))
     + (SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running'))
"""


class HeldMailbox(Mailbox):
    """Takes a message, and answers its final dot when it may."""

    def __init__(self, may_answer):
        super().__init__()
        self.may_answer = may_answer

    async def handle_DATA(self, server, session, envelope):
        self.messages.append(envelope)
        await asyncio.to_thread(self.may_answer.wait)
        return "250 OK"


class HeldReceiver(Receiver):
    """Takes an event, and answers when it may."""

    def __init__(self, may_answer):
        self.may_answer, self.event_ids = may_answer, []
        super().__init__()

    async def hook(self, request):
        self.event_ids.append(request.headers["webhook-id"])
        await asyncio.to_thread(self.may_answer.wait)
        return web.Response(status=204)


@pytest.fixture
def cluster():
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.mark.timeout(300)
def test_answers_are_kept(cluster, tmp_path):
    may_answer = threading.Event()
    with ExitStack() as stack:
        mailbox = stack.enter_context(smtp_server(HeldMailbox(may_answer)))
        service = stack.enter_context(push_service())
        receiver = HeldReceiver(may_answer)
        stack.callback(receiver.close)
        # Before its servers are closed, which would wait for what they hold.
        stack.callback(may_answer.set)
        service.answer = lambda device, number: may_answer.wait() and 201
        site = Sites(tmp_path, cluster).make()
        site.notifications |= {
            "SITE_URL": "https://site.example",
            "DELIVERY": {"*": [{"push": 0}, {"email": 0}]},
            "WEB_PUSH": {"private_key": vapid_key(), "subject": "mailto:admin@site.example"},
            "OUTBOUND_ALLOW": [receiver.address, f"127.0.0.1:{service.port}"],
            "WEBHOOKS": True,
        }
        engine = Engine(site, "answers", lease=LEASE, EMAIL_URL=f"smtp://127.0.0.1:{mailbox.port}")
        stack.callback(site.close)
        stack.callback(engine.close)
        site.change("tests.support.faults.quick_deliveries")
        with driver(site, "tests.support.faults.delivery_actions") as actions:
            users = actions.call("create_users", count=USERS)
            for number, user in enumerate(users):
                private, keys = browser_keys()
                endpoint = f"{service.origin}/{number}"
                device = actions.call("create_device", user=user["key"], endpoint=endpoint, **keys)
                service.private_keys[f"/{number}"] = private, device
                actions.call("create_webhook", user=user["key"], url=receiver.url("/hook"))
            workers = [engine.start_worker() for _ in range(2)]
            actions.call("notify_all", title="Hello")
        held = lambda: (len(mailbox.messages), len(service.tries), len(receiver.event_ids))  # noqa: E731
        wait_until(lambda: held() == (USERS, USERS, USERS), timeout=60, what="all messages to be held")
        cluster.crash()
        may_answer.set()
        time.sleep(2 * LEASE)
        cluster.start()
        wait_until(lambda: not site.rows(OPEN)[0][0], timeout=120, every=0.3, what="all to end")
        assert all(worker.running for worker in workers)
        assert len(mailbox.messages) == USERS
        assert Counter(Counter(service.tries).values()) == {1: USERS}
        assert Counter(Counter(receiver.event_ids).values()) == {1: USERS}
        states = "SELECT state, count(*) FROM notifications_deliveries_delivery GROUP BY state"
        assert dict(site.rows(states)) == {"sent": 2 * USERS}
