"""With random faults, all committed notifications reach all clients of their users, once and in order.

    FAULT_ROUNDS=100 python -m pytest tests/faults/test_delivery.py     rounds for each database or broker
    FAULT_KINDS=kill_web,rings_lost                                     only these faults
    FAULT_SEED=…                                                        repeat the choices of a failed run

A round is a burst of writes with one fault in the middle. After it each client (WebSocket, event stream, long poll)
must have received all committed notifications, none that was rolled back and none twice, in the order of `raised`, and
have the items that GET notifications/ returns.
"""

import asyncio
import os
import random
import time

import pytest

from tests.faults.support.clients import CLIENTS
from tests.faults.support.deployment import Deployment
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.site import Sites

pytestmark = [pytest.mark.delivery, pytest.mark.nightly_names("*[redis-*]", "*[sqlite]")]

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "0"))
KINDS = set(filter(None, os.environ.get("FAULT_KINDS", "").split(",")))
SEED = os.environ.get("FAULT_SEED") or str(random.randrange(10**6))
USER_COUNT, WRITES_PER_ROUND = 3, 30
#: The maximum time until all clients are up to date after a fault. The position check takes up to 5 s of it.
CONVERGENCE_SECONDS = 40

COMMON_FAULTS = (
    *("kill_web", "kill_worker", "stop_web", "stop_worker", "cut_sockets"),
    *("deaths_of_writers", "slow_commits", "rings_lost", "rings_doubled"),
)
#: The faults of each deployment, and its share of FAULT_ROUNDS.
DEPLOYMENTS = {
    "sqlite": (COMMON_FAULTS, 1),
    "postgres": (("crash_database", *COMMON_FAULTS), 1),
    "redis-core": (("kill_redis", *COMMON_FAULTS), 1 / 2),
    "redis-pubsub": (("kill_redis", *COMMON_FAULTS), 1 / 2),
}
LAYERS = {
    "redis-core": "channels_redis.core.RedisChannelLayer",
    "redis-pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


@pytest.fixture(params=DEPLOYMENTS)
def deployment(request, tmp_path):
    """A site with its own database or broker, because the test crashes them."""
    faults, share = DEPLOYMENTS[request.param]
    if KINDS.isdisjoint(faults) and KINDS:
        pytest.skip("FAULT_KINDS has no fault of this deployment.")
    rng = random.Random(f"{SEED} {request.param}")
    cluster = Postgres() if request.param == "postgres" else None
    redis = Redis() if request.param in LAYERS else None
    deployment = Deployment(Sites(tmp_path, cluster).make(), rng, cluster, redis, LAYERS.get(request.param))
    deployment.faults = [fault for fault in faults if not KINDS or fault in KINDS]
    deployment.rounds = round(ROUNDS * share)
    yield deployment
    deployment.close()
    for server in (cluster, redis):
        if server:
            server.stop()


@pytest.mark.timeout(180 + 60 * ROUNDS)
async def test_committed_notifications_reach_all_clients_once(deployment):
    """Each kind of fault occurs at least once, in random order."""
    print(f"FAULT_SEED={SEED}")
    await deployment.start()
    audience = Audience(deployment, await deployment.call("create_users", count=USER_COUNT))
    rounds = [
        *deployment.faults,
        *(
            deployment.rng.choice(deployment.faults)
            for _ in range(deployment.rounds - len(deployment.faults))
        ),
    ]
    deployment.rng.shuffle(rounds)
    try:
        await audience.connect()
        for number, fault in enumerate(rounds):
            started = time.monotonic()
            try:
                await audience.run_round(number, fault)
            except AssertionError as error:
                raise AssertionError(
                    f"FAULT_SEED={SEED}, round {number} of {rounds}: {fault}\n{error}"
                ) from error
            print(f"{number} {fault}: {time.monotonic() - started:.1f} s")
    finally:
        await audience.disconnect()


class Audience:
    """Users, each with clients of every kind, and the notifications that they must receive."""

    def __init__(self, deployment, users):
        self.deployment = deployment
        self.users = [user["user"] for user in users]
        self.sessions = {user["user"]: user["sessions"][0] for user in users}
        self.clients = [
            client_class(user, self.sessions[user], deployment.urls(), deployment.rng)
            for user in self.users
            for client_class in CLIENTS
        ]
        self.known = {user: [] for user in self.users}  # Items of earlier rounds, oldest first.
        self.committed, self.rolled_back, self.jobs = set(), set(), set()

    async def connect(self):
        self.tasks = [asyncio.create_task(client.run()) for client in self.clients]
        await self.wait_until(lambda: all(client.resets for client in self.clients))

    async def disconnect(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def run_round(self, number, fault):
        """Write a burst with the fault in it, then wait until all clients are up to date."""
        deployment = self.deployment
        rings = {"rings_lost": "lost", "rings_doubled": "doubled"}.get(fault, "")
        deployment.rings.write_text(rings)
        burst = asyncio.create_task(
            deployment.call(
                "burst",
                seed=f"{SEED}-{number}",
                count=WRITES_PER_ROUND,
                users=self.users,
                slow=fault == "slow_commits",
                deadly=fault == "deaths_of_writers",
            )
        )
        await asyncio.sleep(deployment.rng.random() * 0.6)
        if hasattr(deployment, fault):
            await getattr(deployment, fault)()
        written = await burst
        self.committed.update(written["committed"])
        self.rolled_back.update(written["rolled_back"])
        self.jobs.update(written["jobs"])
        await self.converge()
        deployment.rings.write_text("")

    async def converge(self):
        """Wait until all jobs are done and all clients are up to date; then check what they received."""
        deadline = time.monotonic() + CONVERGENCE_SECONDS
        while await self.deployment.call("count_unfinished"):
            assert time.monotonic() < deadline, "Jobs are not done, or rows have no seq."
            await asyncio.sleep(0.05)
        notified, jobs = set(), set()
        for user in self.users:
            await self.compare(user, deadline)
            notified |= {f"{item['data'].get('token')}/{user}" for item in self.known[user]}
            jobs |= {item["job"] for item in self.known[user]}
        assert self.committed <= notified, f"Missing: {self.committed - notified}."
        assert self.rolled_back.isdisjoint(notified), "A notification that was rolled back exists."
        assert self.jobs <= jobs, f"Jobs without a notification: {self.jobs - jobs}."
        for client in self.clients:
            assert not client.failures, f"{client}: {client.failures}"
            assert client.resets == 1, f"{client} received another snapshot."

    async def compare(self, user, deadline):
        expected = await self.read_new_items(user)
        self.known[user] += expected["items"]
        items = self.known[user]
        assert len({item["id"] for item in items}) == len(items)
        tokens = [item["data"]["token"] for item in items if "token" in item["data"]]
        assert len(set(tokens)) == len(tokens), "A notification exists twice."
        jobs = [item["job"] for item in items if item["job"]]
        assert len(set(jobs)) == len(jobs), "A job has two notifications."
        position = (expected["epoch"], expected["seq"], expected["unread"])
        for client in (each for each in self.clients if each.user == user):
            while (client.epoch, client.cursor, client.unread) != position:
                actual = (client.epoch, client.cursor, client.unread)
                assert time.monotonic() < deadline, f"{client} is at {actual}, not at {position}."
                await asyncio.sleep(0.02)
            assert list(client.notifications.values()) == items, client
            assert client.received == [item["id"] for item in items], client
            assert all(client.jobs[job]["done"] for job in jobs), client

    async def read_new_items(self, user):
        """Return the items of GET notifications/ since the last round, and the position of the first page."""
        last_raised = self.known[user][-1]["raised"] if self.known[user] else 0
        first = page = await self.deployment.read_page(self.sessions[user])
        items = page["items"]
        while page["next"] and items[-1]["raised"] > last_raised:
            page = await self.deployment.read_page(self.sessions[user], after=page["next"])
            items = [*items, *page["items"]]
        return first | {"items": [item for item in reversed(items) if item["raised"] > last_raised]}

    async def wait_until(self, condition):
        async with asyncio.timeout(CONVERGENCE_SECONDS):
            while not condition():  # noqa: ASYNC110  # There is no event for it.
                await asyncio.sleep(0.02)
