"""A site whose processes can be killed: two servers, a worker, a writer, proxies, optionally PostgreSQL and Redis."""

import asyncio
import json
import signal
import sys
from functools import partial

import aiohttp

from tests.support.driver import Driver
from tests.support.network import Proxy, free_port, is_listening
from tests.support.processes import Process

SERVERS = (
    ("daphne", "-b", "127.0.0.1", "-p", "{port}"),
    ("uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
)


class Deployment:
    """The running processes of a site. Each fault is a method, which returns after it has repaired the damage."""

    def __init__(self, site, rng, cluster=None, redis=None, backend=None):
        self.site, self.rng, self.cluster, self.redis = site, rng, cluster, redis
        self.rings = site.folder / "rings"
        self.rings.write_text("")
        site.environment |= {
            "TEST_CHANGES": "tests.faults.support.rings",
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
        self.writer = Driver(site, "tests.faults.support.writer")

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
        name, *options = SERVERS[number]
        port = self.ports[number]
        arguments = [part.format(port=port) for part in options]
        return self._start_process(
            "-m", name, *arguments, "asyncsite.asgi:application", environment={"PORT": str(port)}
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
