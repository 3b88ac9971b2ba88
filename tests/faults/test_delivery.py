"""With random faults, all committed notifications reach all clients of their users, once and in order.

    FAULT_ROUNDS=100 python -m pytest tests/faults/test_delivery.py     rounds for each database or broker
    FAULT_KINDS=kill_web,rings_lost                                     only these faults
    FAULT_SEED=…                                                        repeat the choices of a failed run

A round is a burst of writes with one fault in the middle. After it each client (WebSocket, event stream, long poll)
must have received all committed notifications, none that was rolled back and none twice, in the order of `raised`, and
have the items that GET notifications/ returns.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.driver import Driver
from tests.support.faults.clients import CLIENTS
from tests.support.network import Proxy, free_port, is_listening
from tests.support.postgres import Postgres
from tests.support.processes import Process
from tests.support.redis_server import Redis
from tests.support.site import SERVERS, Sites

pytestmark = [pytest.mark.any_database, pytest.mark.nightly_names("*[redis-*]", "*[sqlite]")]


def change():
    """Lose or duplicate rings in a process while the file FAULT_RINGS contains "lost" or "doubled"."""
    from notifications.realtime import doorbell

    fault = Path(os.environ["FAULT_RINGS"])
    original = doorbell.listen

    def listen(callback):
        def receive(users, queue):
            for _ in range({"lost": 0, "doubled": 2}.get(fault.read_text(), 1)):
                callback(users, queue)

        return original(receive)

    doorbell.listen = listen


class Deployment:
    """The running processes of a site. Each fault is a method, which returns after it has repaired the damage."""

    def __init__(self, site, rng, cluster=None, redis=None, backend=None):
        self.site, self.rng, self.cluster, self.redis = site, rng, cluster, redis
        self.rings = site.folder / "rings"
        self.rings.write_text("")
        site.environment |= {
            "TEST_CHANGES": __name__,
            "EMBEDDED_WORKER": "0",
            "FAULT_RINGS": str(self.rings),
        }
        if redis:
            layer = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [redis.url]}}}
            site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layer)
        self.ports = [free_port() for _ in SERVERS]
        self.proxies = [Proxy(port) for port in self.ports]
        self.webs = [self._start_web(number) for number in range(len(SERVERS))]
        self.worker = self._start_worker()
        self.writer = Driver(site, "tests.support.faults.writer")

    async def start(self):
        await asyncio.gather(*(self._wait_until_listening(number) for number in range(len(SERVERS))))
        await self.call("slow_commits")

    def close(self):
        self.writer.stop()
        for process in (*self.webs, self.worker):
            process.kill()
        for proxy in self.proxies:
            proxy.close()

    def urls(self):
        return [proxy.url for proxy in self.proxies]

    async def call(self, action, **arguments):
        return await asyncio.to_thread(self.writer.call, action, **arguments)

    async def read_page(self, session, after=None):
        """Return a page of GET notifications/, newest first."""
        number = self.rng.randrange(len(self.ports))
        query = {"limit": "100"} | ({"after": str(after)} if after else {})
        url = f"http://127.0.0.1:{self.ports[number]}/notifications/api/notifications/"
        async with (
            aiohttp.ClientSession(cookies={"sessionid": session}) as client,
            client.get(url, params=query) as response,
        ):
            assert response.status == 200, await response.text()
            return await response.json()

    # The faults.

    async def kill_web(self):
        number = self.rng.randrange(len(SERVERS))
        self.webs[number].kill()
        self.webs[number] = self._start_web(number)
        await self._wait_until_listening(number)

    async def stop_web(self):
        """Stop a server with SIGTERM and start the next one on the same port, as a deployment does."""
        number = self.rng.randrange(len(SERVERS))
        await self._stop(self.webs[number])
        self.webs[number] = self._start_web(number)
        await self._wait_until_listening(number)

    async def stop_worker(self):
        await self._stop(self.worker)
        self.worker = self._start_worker()

    async def kill_worker(self):
        self.worker.kill()
        self.worker = self._start_worker()

    async def cut_sockets(self):
        await self._cut(self.rng.sample(self.proxies, self.rng.randint(1, len(self.proxies))))

    async def crash_database(self):
        """Restart PostgreSQL after a crash. Some clients reconnect while it is down."""
        await asyncio.to_thread(self.cluster.crash)
        await self._cut([self.rng.choice(self.proxies)])
        await asyncio.sleep(self.rng.random() * 0.5)
        await asyncio.to_thread(self.cluster.start)

    async def kill_redis(self):
        """Restart Redis, mostly after the burst, so that no later ring replaces the last lost one."""
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(self.rng.random() * 4)
        await asyncio.to_thread(self.redis.start)

    def _start_web(self, number):
        port, server = self.ports[number], list(SERVERS.values())[number]
        return self._start_process(
            *server, port, "asyncsite.asgi:application", environment={"PORT": str(port)}
        )

    def _start_worker(self):
        return self._start_process("manage.py", "run_jobs")

    def _start_process(self, *arguments, environment=None):
        start = partial(self.site.start_program, arguments, environment=environment)
        return Process([sys.executable, *arguments], log=self.site.folder / "deployment.log", start=start)

    async def _cut(self, proxies):
        for proxy in proxies:
            proxy.cut()
        await asyncio.sleep(self.rng.random() * 0.5)
        for proxy in proxies:
            proxy.restore()

    async def _stop(self, process):
        code = await asyncio.to_thread(process.stop)
        assert code != -signal.SIGKILL, "The process did not end after SIGTERM."

    async def _wait_until_listening(self, number):
        web = self.webs[number]
        await asyncio.to_thread(
            web.wait_until, lambda: is_listening(self.ports[number]), what="the server to listen", timeout=60
        )


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
