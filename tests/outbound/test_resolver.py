"""Looking up names, on threads that hold nobody up."""

import asyncio
import gc
import socket
import threading

import pytest

from notifications import outbound
from notifications.outbound import resolver as names
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


async def test_a_name_that_cannot_be_encoded(monkeypatch):
    """Python's IDNA codec raises a UnicodeError for it, which a caller gets as Unreachable."""

    def getaddrinfo(*args, **options):
        raise UnicodeEncodeError("idna", "a", 0, 1, "label too long")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(outbound.Unreachable, match=r"^long\.test could not be found\.$"):
        await outbound.get("http://long.test/", retries=0)


class Book:
    """Names and how long they take: until `open(name)`, or for ever. `now` and `most` count lookups under way."""

    def __init__(self):
        self.now, self.most, self.seen = 0, 0, []
        self.lock = threading.Lock()
        self.gates = {}

    def lookup(self, host, port):
        with self.lock:
            self.seen.append(host)
            self.now += 1
            self.most = max(self.most, self.now)
            gate = self.gates.get(host)
        if gate:
            gate.wait(20)
        with self.lock:
            self.now -= 1
        return ["8.8.8.8"]

    def hang(self, *hosts):
        self.gates |= {host: threading.Event() for host in hosts}

    def open(self):
        for gate in self.gates.values():
            gate.set()


@pytest.fixture
def book(monkeypatch):
    book = Book()
    monkeypatch.setattr(names, "lookup", book.lookup)
    yield book
    book.open()


async def until(condition):
    """Waits for something that other threads do."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # other threads change it
            await asyncio.sleep(0.005)


def look_up(*hosts):
    return [asyncio.create_task(names.Resolver().resolve(host, 80)) for host in hosts]


async def test_a_few_threads(book):
    """Many lookups at once use a bounded number of threads, and all are answered."""
    hosts = [f"host.{number}.test" for number in range(names.THREADS * 3)]
    book.hang(*hosts)
    tasks = look_up(*hosts)
    await until(lambda: book.now == names.THREADS)
    book.open()
    assert [found[0]["host"] for found in await asyncio.gather(*tasks)] == ["8.8.8.8"] * len(hosts)
    assert book.most == names.THREADS


async def test_one_lookup_for_all_who_ask(book):
    """A name that many ask for, from several event loops, is looked up once at a time."""
    book.hang("a.test")
    tasks = look_up(*["a.test"] * 50)
    await until(lambda: book.now == 1)
    other = asyncio.create_task(asyncio.to_thread(asyncio.run, names.Resolver().resolve("a.test", 80)))
    await until(lambda: len(names.lookups._known["a.test"].futures) == 51)
    book.open()
    await asyncio.gather(*tasks, other)
    assert book.seen == ["a.test"]
    await names.Resolver().resolve("a.test", 80)
    assert book.seen == ["a.test"] * 2


async def test_dead_names_hold_up_no_other(book, monkeypatch):
    """Lookups that hang do not count as work any more, and another name is answered."""
    monkeypatch.setattr(names, "MAX_HUNG_THREADS", 0.05)
    dead = [f"www.{number}.test" for number in range(names.THREADS * 2)]
    book.hang(*dead)
    tasks = look_up(*dead)
    await until(lambda: book.now == names.THREADS * 2)
    assert await names.Resolver().resolve("alive.example", 80)
    book.open()
    await asyncio.gather(*tasks)


async def test_hung_lookups_are_bounded(book, monkeypatch):
    """However many names hang, the threads are not more than MOST."""
    monkeypatch.setattr(names, "MAX_HUNG_THREADS", 0.02)
    monkeypatch.setattr(names, "MAX_LOOKUPS", 40)
    dead = [f"www.{number}.test" for number in range(60)]
    book.hang(*dead)
    tasks = look_up(*dead)
    await until(lambda: names.lookups.state() == (40, 20))
    book.open()
    await asyncio.gather(*tasks)
    assert book.most == 40


async def test_one_domain_does_not_take_all(book, monkeypatch):
    """Names below one domain, of which somebody can invent any number, get a few threads; others get theirs."""
    dead = [f"{number}.evil.test" for number in range(100)]
    book.hang(*dead)
    tasks = look_up(*dead)
    await until(lambda: names.lookups.state() == (names.A_DOMAIN, 100 - names.A_DOMAIN))
    assert await names.Resolver().resolve("alive.example", 80)
    assert book.most == names.A_DOMAIN + 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert names.lookups.state() == (names.A_DOMAIN, 0)
    book.open()
    await until(lambda: names.lookups.state() == (0, 0))
    assert not names.lookups._known


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
def test_domain(host, domain):
    """Names are grouped by the domain that is somebody's own."""
    assert names.domain(host) == domain


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


async def test_calls_that_are_over_leave_the_queue(book):
    """A name that only calls past their deadline have asked for is not looked up any more."""
    dead = [f"{number}.evil.test" for number in range(20)]
    book.hang(*dead)
    calls = [outbound.get(f"http://{host}/", deadline=0.2, retries=0) for host in dead]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {outbound.TimedOut}
    assert names.lookups.state() == (names.A_DOMAIN, 0)
    book.open()
    await until(lambda: names.lookups.state() == (0, 0))
    assert sorted(book.seen) == sorted(dead[: names.A_DOMAIN])


async def test_answers_are_kept_for_a_while(book, monkeypatch):
    """A resolver asks once in a while, and looks at what the answer is each time."""
    resolver = names.PublicResolver()
    for _ in range(3):
        assert await resolver.resolve("a.test", 80)
    assert book.seen == ["a.test"]
    with monkeypatch.context() as then:
        then.setattr(names, "reserved", lambda address: "not public any more")
        with pytest.raises(ForbiddenAddress):
            await resolver.resolve("a.test", 80)
    monkeypatch.setattr(names, "CACHE_SECONDS", 0)
    for host in ("b.test", "b.test"):
        assert await resolver.resolve(host, 80)
    assert book.seen == ["a.test", "b.test", "b.test"]
    monkeypatch.setattr(names, "MAX_CACHED_NAMES", 3)
    for number in range(9):
        await resolver.resolve(f"{number}.test", 80)
    assert len(resolver._kept) == 3


async def test_a_thread_that_cannot_be_started(book, monkeypatch):
    """The name may be found later, and holds no place meanwhile."""
    with monkeypatch.context() as then:
        then.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(socket.gaierror) as error:
            await names.Resolver().resolve("a.test", 80)
        assert error.value.errno == socket.EAI_AGAIN
    assert names.lookups.state() == (0, 0)
    assert await names.Resolver().resolve("a.test", 80)


def no_more_threads(thread):
    raise RuntimeError("can't start new thread")


async def test_an_error_that_comes_as_a_call_is_given_up(book, caplog):
    """Nobody is there to take it, and the log has no word of it."""
    book.hang("dead.test")
    (task,) = look_up("dead.test")
    await until(lambda: book.now == 1)
    (future,) = names.lookups._known["dead.test"].futures
    future.set_exception(socket.gaierror(socket.EAI_AGAIN, "no server answers"))
    task.cancel()
    await asyncio.wait([task])
    del future, task
    book.open()
    await until(lambda: names.lookups.state() == (0, 0))
    gc.collect()
    assert not caplog.records
