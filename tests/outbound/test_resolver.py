"""Name resolution on threads with limits."""

import asyncio
import socket
import threading

import pytest

from notifications import outbound
from notifications.outbound import resolver


async def test_system_names():
    """Names of the system are found, each address once."""
    addresses = await resolver.lookups.run("localhost")
    assert "127.0.0.1" in addresses or "::1" in addresses
    assert len(addresses) == len(set(addresses))


async def test_unknown_name(resolve_names):
    """A name that is not found raises the error of getaddrinfo."""
    resolve_names({})
    with pytest.raises(socket.gaierror):
        await resolver.lookups.run("nowhere.test")


class FakeDns:
    """Names that resolve at once, or hang until `release()`. `active` and `max_active` count lookups."""

    def __init__(self):
        self.active, self.max_active, self.resolved = 0, 0, []
        self.lock = threading.Lock()
        self.events = {}

    def resolve_name(self, host):
        with self.lock:
            self.resolved.append(host)
            self.active += 1
            self.max_active = max(self.max_active, self.active)
            event = self.events.get(host)
        if event:
            event.wait(20)
        with self.lock:
            self.active -= 1
        return ["8.8.8.8"]

    def hang(self, *hosts):
        self.events |= {host: threading.Event() for host in hosts}

    def release(self):
        for event in self.events.values():
            event.set()


@pytest.fixture
def fake_dns(monkeypatch):
    fake_dns = FakeDns()
    monkeypatch.setattr(resolver, "resolve_name", fake_dns.resolve_name)
    yield fake_dns
    fake_dns.release()


async def wait_until(condition):
    """Wait for a condition that other threads change."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # other threads change it
            await asyncio.sleep(0.005)


def start_lookups(*hosts):
    return [asyncio.create_task(resolver.lookups.run(host)) for host in hosts]


def count_names():
    """Return the numbers of names that are being resolved, and of those that wait for a thread."""
    return len(resolver.lookups.running), len(set(resolver.lookups.waiting))


async def test_shared_lookup(fake_dns):
    """A name that many calls want, from several event loops, is resolved once at a time, also if one is cancelled."""
    fake_dns.hang("a.test")
    tasks = start_lookups(*["a.test"] * 50)
    await wait_until(lambda: fake_dns.active == 1)
    is_waiting = threading.Event()

    async def resolve_in_another_loop():
        (task,) = start_lookups("a.test")
        await asyncio.sleep(0)
        is_waiting.set()
        await task

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, resolve_in_another_loop()))
    await wait_until(is_waiting.is_set)
    tasks.pop().cancel()
    fake_dns.release()
    await asyncio.gather(*tasks, other)
    assert fake_dns.resolved == ["a.test"]
    await resolver.lookups.run("a.test")
    assert fake_dns.resolved == ["a.test"] * 2


async def test_hanging_lookups_do_not_delay_others(fake_dns):
    """A name is resolved while lookups of many others hang."""
    hosts = [f"www.{number}.test" for number in range(resolver.MAX_THREADS - 1)]
    fake_dns.hang(*hosts)
    tasks = start_lookups(*hosts)
    await wait_until(lambda: fake_dns.active == len(hosts))
    assert await resolver.lookups.run("alive.example")
    fake_dns.release()
    await asyncio.gather(*tasks)


async def test_max_threads(fake_dns, monkeypatch):
    """Lookups use at most MAX_THREADS threads, and all get their answer."""
    monkeypatch.setattr(resolver, "MAX_THREADS", 40)
    hosts = [f"www.{number}.test" for number in range(60)]
    fake_dns.hang(*hosts)
    tasks = start_lookups(*hosts)
    await wait_until(lambda: count_names() == (40, 20))
    fake_dns.release()
    assert await asyncio.gather(*tasks) == [["8.8.8.8"]] * len(hosts)
    assert fake_dns.max_active == 40


async def test_max_threads_per_domain(fake_dns, monkeypatch):
    """Names below one domain, which can be invented in any number, get a few threads; others get theirs."""
    hosts = [f"{number}.attack.test" for number in range(100)]
    fake_dns.hang(*hosts)
    tasks = start_lookups(*hosts)
    await wait_until(
        lambda: count_names() == (resolver.MAX_THREADS_PER_DOMAIN, 100 - resolver.MAX_THREADS_PER_DOMAIN)
    )
    assert await resolver.lookups.run("alive.example")
    assert fake_dns.max_active == resolver.MAX_THREADS_PER_DOMAIN + 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert count_names() == (resolver.MAX_THREADS_PER_DOMAIN, 0)
    fake_dns.release()
    await wait_until(lambda: count_names() == (0, 0))


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("localhost", "localhost"),
        ("a.b.co.uk", "b.co.uk"),
        ("b.co.uk", "b.co.uk"),
        ("a.example.de", "example.de"),
    ],
)
def test_parent_domain(host, domain):
    """Names are grouped by the domain that one owner controls."""
    assert resolver.parent_domain(host) == domain


async def test_canceled_lookup(resolve_names):
    """A lookup that no call waits for any more does not affect others."""
    gate = threading.Event()
    resolve_names({"slow.test": lambda: gate.wait(5) and ["8.8.8.8"], "a.test": ["8.8.8.8"]})
    task = asyncio.create_task(resolver.lookups.run("slow.test"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await resolver.lookups.run("a.test")


async def test_ended_calls_leave_the_queue(fake_dns):
    """A name that is wanted only by calls past their deadline is not resolved."""
    hosts = [f"{number}.attack.test" for number in range(20)]
    fake_dns.hang(*hosts)
    calls = [outbound.get(f"http://{host}/", deadline=0.2, retries=0) for host in hosts]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {outbound.TimedOut}
    assert count_names() == (resolver.MAX_THREADS_PER_DOMAIN, 0)
    fake_dns.release()
    await wait_until(lambda: count_names() == (0, 0))
    assert sorted(fake_dns.resolved) == sorted(hosts[: resolver.MAX_THREADS_PER_DOMAIN])


async def test_thread_cannot_start(fake_dns, monkeypatch):
    """The error is transient, and the lookup does not stay in the limits."""
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(socket.gaierror) as error:
            await resolver.lookups.run("a.test")
        assert error.value.errno == socket.EAI_AGAIN
    assert count_names() == (0, 0)
    assert await resolver.lookups.run("a.test")


def no_more_threads(thread):
    raise RuntimeError("can't start new thread")
