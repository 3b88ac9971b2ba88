"""Looking up names, on threads that hold nobody up."""

import asyncio
import socket
import threading

import pytest

from notifications.outbound import names
from notifications.outbound.guard import ForbiddenAddress


async def test_system():
    """The system's own names are found, once each."""
    found = await names.Resolver().resolve("localhost", 80)
    addresses = [result["host"] for result in found]
    assert "127.0.0.1" in addresses or "::1" in addresses
    assert len(addresses) == len(set(addresses))


async def test_families(stands_for):
    """Each address has its family, whatever family is asked for: the check sees all."""
    stands_for({"both.test": ["8.8.8.8", "2606:4700::1"]})
    found = await names.PublicResolver().resolve("both.test", 443, socket.AF_INET)
    assert [(result["host"], result["family"], result["port"]) for result in found] == [
        ("8.8.8.8", socket.AF_INET, 443),
        ("2606:4700::1", socket.AF_INET6, 443),
    ]


async def test_not_public(stands_for):
    """An answer with one address that is not public is an error as a whole, and tells no address."""
    stands_for({"mixed.test": ["8.8.8.8", "10.1.2.3"]})
    with pytest.raises(ForbiddenAddress) as forbidden:
        await names.PublicResolver().resolve("mixed.test", 443)
    assert "10.1.2.3" not in str(forbidden.value)
    assert len(await names.Resolver().resolve("mixed.test", 443)) == 2


async def test_unknown(stands_for):
    """A name that is not found is the system's error."""
    stands_for({})
    with pytest.raises(socket.gaierror):
        await names.Resolver().resolve("nowhere.test", 80)


async def test_a_few_threads(stands_for):
    """Many lookups at once use a bounded number of threads, and all are answered."""
    now, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def lookup():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == names.THREADS:
                full.set()
        full.wait(5)
        with lock:
            now -= 1
        return ["8.8.8.8"]

    stands_for({"a.test": lookup})
    found = await asyncio.gather(*[names.Resolver().resolve("a.test", 80) for _ in range(100)])
    assert [result[0]["host"] for result in found] == ["8.8.8.8"] * 100
    assert most == names.THREADS


async def test_cancelled_lookup(stands_for):
    """A lookup that nobody waits for any more disturbs nobody."""
    gate = threading.Event()
    stands_for({"slow.test": lambda: gate.wait(5) and ["8.8.8.8"], "a.test": ["8.8.8.8"]})
    task = asyncio.create_task(names.Resolver().resolve("slow.test", 80))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await names.Resolver().resolve("a.test", 80)
