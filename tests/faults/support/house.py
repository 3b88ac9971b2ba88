"""A site with everything that can be killed: two servers, a worker, a writer, proxies, perhaps PostgreSQL and Redis."""

import asyncio
import json
import signal
import sys

import aiohttp

from tests.support.driver import Driver
from tests.support.network import Proxy, free_port, listens
from tests.support.processes import Process
from tests.support.site import ROOT

SERVERS = (
    ("daphne", "-b", "127.0.0.1", "-p", "{port}"),
    ("uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
)


class House:
    """`start()` all of it, then faults at any time; each heals what it broke. `close()` ends what was started."""

    def __init__(self, site, chance, cluster=None, redis=None, backend=None):
        self.site, self.chance, self.cluster, self.redis = site, chance, cluster, redis
        self.rings = site.folder / "rings"
        self.rings.write_text("")
        site.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.faults.support.settings",
            "EMBEDDED_WORKER": "0",
            "FAULT_RINGS": str(self.rings),
        }
        if redis:
            layer = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [redis.url]}}}
            site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layer)
        self.ports = [free_port() for _ in SERVERS]
        self.proxies = [Proxy(port) for port in self.ports]
        self.webs = [self._web(number) for number in range(len(SERVERS))]
        self.worker = self._worker()
        self.writer = Driver(site, "tests.faults.support.writer")

    async def start(self):
        await asyncio.gather(*(self._until_it_listens(number) for number in range(len(SERVERS))))
        await self.call("slow_commits")

    def close(self):
        self.writer.stop()
        for process in (*self.webs, self.worker):
            process.kill()
        for proxy in self.proxies:
            proxy.close()

    def urls(self):
        return [proxy.url for proxy in self.proxies]

    async def call(self, deed, **told):
        return await asyncio.to_thread(self.writer.call, deed, **told)

    async def page(self, session, after=None):
        """GET notifications/ of whoever this is, newest first."""
        number = self.chance.randrange(len(self.ports))
        query = {"limit": "100"} | ({"after": str(after)} if after else {})
        url = f"http://127.0.0.1:{self.ports[number]}/notifications/api/notifications/"
        async with (
            aiohttp.ClientSession(cookies={"sessionid": session}) as client,
            client.get(url, params=query) as response,
        ):
            assert response.status == 200, await response.text()
            return await response.json()

    # Faults: each breaks something, and returns when it is whole again.

    async def kill_web(self):
        number = self.chance.randrange(len(SERVERS))
        self.webs[number].kill()
        self.webs[number] = self._web(number)
        await self._until_it_listens(number)

    async def stop_web(self):
        """As at a deploy: SIGTERM, and the next one on the same port."""
        number = self.chance.randrange(len(SERVERS))
        await self._stop(self.webs[number])
        self.webs[number] = self._web(number)
        await self._until_it_listens(number)

    async def stop_worker(self):
        await self._stop(self.worker)
        self.worker = self._worker()

    async def kill_worker(self):
        self.worker.kill()
        self.worker = self._worker()

    async def cut_sockets(self):
        await self._cut(self.chance.sample(self.proxies, self.chance.randint(1, len(self.proxies))))

    async def crash_database(self):
        """Some clients come back while it is away."""
        await asyncio.to_thread(self.cluster.crash)
        await self._cut([self.chance.choice(self.proxies)])
        await asyncio.sleep(self.chance.random() * 0.5)
        await asyncio.to_thread(self.cluster.start)

    async def kill_redis(self):
        """Mostly longer than the burst takes: nobody is reminded of what rang last."""
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(self.chance.random() * 4)
        await asyncio.to_thread(self.redis.start)

    def _web(self, number):
        name, *where = SERVERS[number]
        port = self.ports[number]
        arguments = [part.format(port=port) for part in where]
        return self._process(
            "-m", name, *arguments, "asyncsite.asgi:application", environment={"PORT": str(port)}
        )

    def _worker(self):
        return self._process("manage.py", "run_jobs")

    def _process(self, *arguments, environment=None):
        env = self.site.env() | (environment or {})
        return Process([sys.executable, *arguments], log=self.site.folder / "house.log", env=env, cwd=ROOT)

    async def _cut(self, proxies):
        for proxy in proxies:
            proxy.cut()
        await asyncio.sleep(self.chance.random() * 0.5)
        for proxy in proxies:
            proxy.restore()

    async def _stop(self, process):
        code = await asyncio.to_thread(process.stop)
        assert code != -signal.SIGKILL, "It did not end by itself."

    async def _until_it_listens(self, number):
        web = self.webs[number]
        await asyncio.to_thread(
            web.wait_until, lambda: listens(self.ports[number]), what="the server to listen", timeout=60
        )
