"""Everything is killed, cut and lost at random points: all that was committed reaches everybody, once and in order.

    FAULT_ROUNDS=100 python -m pytest tests/faults/test_delivery.py     so many rounds on each database or broker
    FAULT_KINDS=kill_web,rings_lost                                     only these
    FAULT_SEED=…                                                        the deeds of a failed run

A round is a burst of writes, and one fault in the middle of it. After it every client, at a WebSocket, at events or at
a long poll, must be told all that a transaction committed, nothing that was rolled back, nothing twice, in the order
of `raised`, and hold what GET notifications/ answers.
"""

import asyncio
import os
import random
import time

import pytest

from tests.faults.support.house import House
from tests.faults.support.watcher import WATCHERS
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.site import Sites

pytestmark = pytest.mark.delivery

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "0"))
KINDS = set(filter(None, os.environ.get("FAULT_KINDS", "").split(",")))
SEED = os.environ.get("FAULT_SEED") or str(random.randrange(10**6))
USERS, DEEDS = 3, 30
#: Seconds within which everybody knows everything after a fault is healed: the position check takes 5 of them.
PATIENCE = 40

ANYWHERE = (
    *("kill_web", "kill_worker", "stop_web", "stop_worker", "cut_sockets"),
    *("deaths_of_writers", "slow_commits", "rings_lost", "rings_doubled"),
)
#: Faults of each house, and its part of the rounds.
HOUSES = {
    "sqlite": (ANYWHERE, 1),
    "postgres": (("crash_database", *ANYWHERE), 1),
    "redis-core": (("kill_redis", *ANYWHERE), 1 / 2),
    "redis-pubsub": (("kill_redis", *ANYWHERE), 1 / 2),
}
LAYERS = {
    "redis-core": "channels_redis.core.RedisChannelLayer",
    "redis-pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


@pytest.fixture(params=HOUSES)
def house(request, tmp_path):
    """A running site on this kind of database or broker, of the test's own because they are crashed."""
    faults, part = HOUSES[request.param]
    if KINDS.isdisjoint(faults) and KINDS:
        pytest.skip("FAULT_KINDS has no fault of this house.")
    chance = random.Random(f"{SEED} {request.param}")
    cluster = Postgres() if request.param == "postgres" else None
    redis = Redis() if request.param in LAYERS else None
    house = House(Sites(tmp_path, cluster).make(), chance, cluster, redis, LAYERS.get(request.param))
    house.faults = [fault for fault in faults if not KINDS or fault in KINDS]
    house.rounds = round(ROUNDS * part)
    yield house
    house.close()
    for server in (cluster, redis):
        if server:
            server.stop()


@pytest.mark.timeout(180 + 60 * ROUNDS)
async def test_all_that_was_committed_reaches_everybody_once(house):
    """Fault after fault, in any order; each kind at least once."""
    print(f"FAULT_SEED={SEED}")
    await house.start()
    crowd = Crowd(house, await house.call("people", count=USERS))
    rounds = [
        *house.faults,
        *(house.chance.choice(house.faults) for _ in range(house.rounds - len(house.faults))),
    ]
    house.chance.shuffle(rounds)
    try:
        await crowd.arrive()
        for number, fault in enumerate(rounds):
            began = time.monotonic()
            try:
                await crowd.live_through(number, fault)
            except AssertionError as error:
                raise AssertionError(
                    f"FAULT_SEED={SEED}, round {number} of {rounds}: {fault}\n{error}"
                ) from error
            print(f"{number} {fault}: {time.monotonic() - began:.1f} s")
    finally:
        await crowd.leave()


class Crowd:
    """Users, each with clients of every kind, and what is known of what they must be told."""

    def __init__(self, house, people):
        self.house = house
        self.users = [person["user"] for person in people]
        self.sessions = {person["user"]: person["sessions"][0] for person in people}
        self.watchers = [
            watcher(user, self.sessions[user], house.urls(), house.chance)
            for user in self.users
            for watcher in WATCHERS
        ]
        self.known = {user: [] for user in self.users}  # items of earlier rounds, oldest first
        self.committed, self.undone, self.jobs = set(), set(), set()

    async def arrive(self):
        self.tasks = [asyncio.create_task(watcher.run()) for watcher in self.watchers]
        await self.until(lambda: all(watcher.resets for watcher in self.watchers), "everybody to be there")

    async def leave(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def live_through(self, number, fault):
        """A burst with the fault in it, then wait until everybody has been told."""
        house = self.house
        rings = {"rings_lost": "lost", "rings_doubled": "doubled"}.get(fault, "")
        house.rings.write_text(rings)
        burst = asyncio.create_task(
            house.call(
                "burst",
                seed=f"{SEED}-{number}",
                count=DEEDS,
                users=self.users,
                slow=fault == "slow_commits",
                deadly=fault == "deaths_of_writers",
            )
        )
        await asyncio.sleep(house.chance.random() * 0.6)
        if hasattr(house, fault):
            await getattr(house, fault)()
        written = await burst
        self.committed.update(written["committed"])
        self.undone.update(written["undone"])
        self.jobs.update(written["jobs"])
        await self.converge()
        house.rings.write_text("")

    async def converge(self):
        """Wait until nothing is under way and every client holds what the database has; then look how it was told."""
        deadline = time.monotonic() + PATIENCE
        while await self.house.call("active"):
            assert time.monotonic() < deadline, "Jobs are not done, or rows have no number."
            await asyncio.sleep(0.05)
        told, about = set(), set()
        for user in self.users:
            await self.compare(user, deadline)
            told |= {f"{item['data'].get('token')}/{user}" for item in self.known[user]}
            about |= {item["job"] for item in self.known[user]}
        assert self.committed <= told, f"Nobody was told of {self.committed - told}."
        assert self.undone.isdisjoint(told), "Something that was rolled back is there."
        assert self.jobs <= about, f"Nobody was told of the jobs {self.jobs - about}."
        for watcher in self.watchers:
            assert not watcher.wrong, f"{watcher}: {watcher.wrong}"
            assert watcher.resets == 1, f"{watcher} had to start anew."

    async def compare(self, user, deadline):
        truth = await self.read(user)
        self.known[user] += truth["items"]
        items = self.known[user]
        assert len({item["id"] for item in items}) == len(items)
        tokens = [item["data"]["token"] for item in items if "token" in item["data"]]
        assert len(set(tokens)) == len(tokens), "Something was recorded twice."
        about = [item["job"] for item in items if item["job"]]
        assert len(set(about)) == len(about), "A job has told twice."
        position = (truth["epoch"], truth["seq"], truth["unread"])
        for watcher in (one for one in self.watchers if one.user == user):
            while (watcher.epoch, watcher.cursor, watcher.unread) != position:
                assert time.monotonic() < deadline, (
                    f"{watcher}: {(watcher.epoch, watcher.cursor, watcher.unread)} is not {position} in {PATIENCE} s."
                )
                await asyncio.sleep(0.02)
            assert list(watcher.notifications.values()) == items, watcher
            assert watcher.told == [item["id"] for item in items], watcher
            assert all(watcher.jobs[job]["done"] for job in about), watcher

    async def read(self, user):
        """GET notifications/ back to what is known, and the position that was read before the first page."""
        seen = self.known[user][-1]["raised"] if self.known[user] else 0
        first = page = await self.house.page(self.sessions[user])
        items = page["items"]
        while page["next"] and items[-1]["raised"] > seen:
            page = await self.house.page(self.sessions[user], after=page["next"])
            items = [*items, *page["items"]]
        return first | {"items": [item for item in reversed(items) if item["raised"] > seen]}

    async def until(self, condition, what):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 (the condition is anything, there is no event of it)
                await asyncio.sleep(0.02)
