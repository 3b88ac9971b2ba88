"""Circuit breakers: failing servers are not called for a while, then probed."""

import asyncio
import contextlib
import errno
import logging
from urllib.parse import quote

import pytest

from notifications import outbound
from notifications.api import requester
from notifications.outbound import circuits as module
from notifications.outbound import connector
from notifications.outbound.circuits import (
    INITIAL_OPEN_SECONDS,
    MAX_CALLERS_PER_ORIGIN,
    MAX_FAILURES_PER_CALLER,
    MAX_OPEN_SECONDS,
    MAX_ORIGINS,
    MIN_CALLERS,
    MIN_FAILURES,
    PROBE_TIMEOUT_SECONDS,
    WINDOW_SECONDS,
    CallNotPermitted,
    Circuits,
    OriginCircuits,
)

from .upstream import CannedServer


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: clock.now."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def record(circuit, *, has_failed, times=1):
    """Record the outcome of calls."""
    for _ in range(times):
        circuit.record("ada", circuit.acquire_permission("ada"), has_failed)


def make_open_circuit():
    circuit = OriginCircuits("http://a.test:80")
    record(circuit, has_failed=True, times=MIN_FAILURES)
    assert circuit.state == "open"
    return circuit


def test_opens_after_enough_failures(clock):
    """The circuit opens at MIN_FAILURES failed calls, not earlier."""
    circuit = OriginCircuits("http://a.test:80")
    record(circuit, has_failed=True, times=MIN_FAILURES - 1)
    assert circuit.state == "closed"
    record(circuit, has_failed=True)
    with pytest.raises(CallNotPermitted) as refused:
        circuit.acquire_permission("ada")
    assert refused.value.seconds == INITIAL_OPEN_SECONDS


def test_failure_rate(clock):
    """The circuit stays closed while more calls succeed than record_failures."""
    circuit = OriginCircuits("http://a.test:80")
    for _ in range(MIN_FAILURES * 3):
        record(circuit, has_failed=False, times=2)
        record(circuit, has_failed=True)
    assert circuit.state == "closed"
    record(circuit, has_failed=True, times=MIN_FAILURES * 3)
    assert circuit.state == "open"


def test_window(clock):
    """Calls older than the window do not count."""
    circuit = OriginCircuits("http://a.test:80")
    record(circuit, has_failed=True, times=MIN_FAILURES - 1)
    clock.now += WINDOW_SECONDS
    record(circuit, has_failed=True, times=MIN_FAILURES - 1)
    assert circuit.state == "closed"
    clock.now += WINDOW_SECONDS / 2
    record(circuit, has_failed=True)
    assert circuit.state == "open"


def test_canceled_calls_are_not_counted(clock):
    """Cancelled and refused calls count neither as successes nor as failures."""
    circuit = OriginCircuits("http://a.test:80")
    record(circuit, has_failed=None, times=MIN_FAILURES * 2)
    assert circuit.counts == (0, 0)


def test_probes(clock):
    """A half-open circuit permits one call at a time; two successes close it."""
    circuit = make_open_circuit()
    clock.now += INITIAL_OPEN_SECONDS
    assert circuit.state == "half-open"
    assert circuit.acquire_permission("ada") == (True, False)
    with pytest.raises(CallNotPermitted):
        circuit.acquire_permission("ada")
    circuit.record("ada", (True, False), has_failed=False)
    assert circuit.state == "half-open"
    assert circuit.acquire_permission("ada") == (True, False)
    circuit.record("ada", (True, False), has_failed=False)
    assert circuit.state == "closed"
    assert circuit.counts == (0, 0)
    assert circuit.acquire_permission("ada") == (False, False)


def test_failed_probe(clock):
    """A failed probe opens the circuit again, for twice as long each time up to a maximum."""
    circuit, pause = make_open_circuit(), INITIAL_OPEN_SECONDS
    for _ in range(8):
        clock.now += pause
        record(circuit, has_failed=True)
        pause = min(pause * 2, MAX_OPEN_SECONDS)
        with pytest.raises(CallNotPermitted) as refused:
            circuit.check("ada")
        assert refused.value.seconds == pause
    assert pause == MAX_OPEN_SECONDS


def test_probe_without_outcome(clock):
    """Another probe is permitted after one that was cancelled, or that has not ended in time."""
    circuit = make_open_circuit()
    clock.now += INITIAL_OPEN_SECONDS
    record(circuit, has_failed=None)
    assert circuit.acquire_permission("ada") == (True, False)
    clock.now += PROBE_TIMEOUT_SECONDS
    assert circuit.acquire_permission("ada") == (True, False)


def test_many_origins():
    """The number of origins in memory is limited."""
    circuits = Circuits()
    for number in range(MAX_ORIGINS + 10):
        circuits.get(f"http://{number}.test:80")
    assert len(circuits.all()) == MAX_ORIGINS


@pytest.mark.parametrize("failure", ["503", "silence", "timeout"])
async def test_failing_server(upstream, allow, clock, caplog, failure):
    """A failing server is not called until the circuit is half-open. Other servers still are."""
    caplog.set_level(logging.INFO, "notifications.outbound")
    with CannedServer(keep_open=False) as server:
        allow(upstream.address, server.address, OUTBOUND_PER_HOST=100)
        url = {"503": upstream.url("/status/503"), "silence": server.url, "timeout": upstream.url("/slow/9")}[
            failure
        ]
        options = {"retries": 0, "deadline": 1.5 if failure == "timeout" else 10}
        await asyncio.gather(
            *[outbound.get(url, **options) for _ in range(MIN_FAILURES)], return_exceptions=True
        )
        before = len(upstream.requests) + server.request_count
        assert before == MIN_FAILURES
        with pytest.raises(outbound.CircuitOpen) as error:
            await outbound.get(url, retries=5)
        address = server.address if failure == "silence" else upstream.address
        assert str(error.value) == (
            f"{address} was not called: it has failed too often. Try again in {INITIAL_OPEN_SECONDS:g} s."
        )
        assert error.value.retry_after == INITIAL_OPEN_SECONDS
        assert isinstance(error.value, outbound.TEMPORARY)
        assert len(upstream.requests) + server.request_count == before
        assert f"Circuit opened: http://{address}, one caller, for 10 s: 20 of 20 calls failed" in caplog.text
        if failure == "503":
            clock.now += INITIAL_OPEN_SECONDS
            for _ in range(2):
                await outbound.get(upstream.url("/ok"))
            assert outbound.state().origins == ()  # its failures are forgotten
            assert f"Circuit closed: http://{address}, one caller" in caplog.text


async def test_calls_waiting_for_a_slot(upstream, allow):
    """Calls that wait for a slot are not sent after the circuit has opened."""
    allow(upstream.address, OUTBOUND_PER_HOST=2)
    calls = [outbound.get(upstream.url("/status/503"), retries=0) for _ in range(MIN_FAILURES * 2)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, outbound.CircuitOpen) for outcome in outcomes) >= MIN_FAILURES - 2
    assert len(upstream.requests) <= MIN_FAILURES + 1


@pytest.mark.parametrize(
    "path", ["/status/404", "/status/500", "/status/429", "/sized/100", "/redirect?to=http://10.0.0.1/"]
)
async def test_responses_that_are_no_failures(upstream, path):
    """A 404, a 500 or a redirect is about one URL, a 429 about the caller, and a large body about neither."""
    for _ in range(MIN_FAILURES + 1):
        with contextlib.suppress(outbound.TooLarge, outbound.Refused):
            await outbound.get(upstream.url(path), retries=0, max_bytes=50)
    assert (await outbound.get(upstream.url("/ok"))).status == 200
    assert outbound.state().origins == ()


async def test_endless_redirects_are_no_failure(upstream):
    """Too many redirects are an unusable response, but a response."""
    to = "/ok"
    for _ in range(6):
        to = f"/redirect?to={quote(to)}"
    for _ in range(MIN_FAILURES + 1):
        with pytest.raises(outbound.BadResponse, match="redirects more than 5 times"):
            await outbound.get(upstream.url(to), retries=0)
    assert outbound.state().origins == ()


async def test_local_errors_are_no_failures(public_upstream, monkeypatch):
    """A call that gets no file descriptor means nothing about the server."""

    def no_descriptor(info):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(connector, "make_guarded_socket", no_descriptor)
    for _ in range(MIN_FAILURES):
        with pytest.raises(outbound.Unreachable):
            await outbound.get(public_upstream.url("/ok"), retries=0)
    assert outbound.state().origins == ()


@pytest.mark.parametrize("failure", ["503", "timeout"])
async def test_failures_of_one_caller(upstream, allow, failure):
    """After the failures of one user's URLs, other users and calls without a user still reach the server."""
    allow(upstream.address, OUTBOUND_PER_HOST=100)
    url = upstream.url("/status/503" if failure == "503" else "/slow/9")
    deadline = 0.2 if failure == "timeout" else 10
    with requester(1):
        calls = [outbound.get(url, retries=0, deadline=deadline) for _ in range(MIN_FAILURES * 2)]
        await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(outbound.CircuitOpen):
            await outbound.get(upstream.url("/ok"))
    with requester(2):
        assert (await outbound.get(upstream.url("/ok"))).status == 200
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_shared_circuit(upstream, clock, caplog):
    """Failures of three callers open the circuit for all. Those of one do not, however many."""
    caplog.set_level(logging.INFO, "notifications.outbound")
    origin_circuits = module.circuits.get(f"http://{upstream.address}")
    for _ in range(5):
        record_failures(origin_circuits, 1, MIN_FAILURES)
        clock.now += INITIAL_OPEN_SECONDS
    record_failures(origin_circuits, 2, MAX_FAILURES_PER_CALLER)
    assert origin_circuits.shared.state == "closed"
    record_failures(origin_circuits, 3, MAX_FAILURES_PER_CALLER)
    assert origin_circuits.shared.state == "open"
    assert f"Circuit opened: http://{upstream.address}, all callers, for 10 s" in caplog.text
    with requester(4), pytest.raises(outbound.CircuitOpen):
        await outbound.get(upstream.url("/ok"))
    clock.now += INITIAL_OPEN_SECONDS
    with requester(4):
        for _ in range(2):
            await outbound.get(upstream.url("/ok"))
    assert origin_circuits.shared.state == "closed"


def test_successes_of_others_keep_the_shared_circuit_closed(clock):
    """The failures of three callers that count are fewer than the successes of another."""
    origin_circuits = OriginCircuits("http://a.test:80")
    for _ in range(MIN_CALLERS * MAX_FAILURES_PER_CALLER + 1):
        origin_circuits.record("good", (False, False), has_failed=False)
    for caller in range(MIN_CALLERS):
        record_failures(origin_circuits, caller, 10 * MIN_FAILURES)
    assert origin_circuits.shared.state == "closed"


def test_successes_before_the_first_failure_count(clock):
    """A caller's circuit opens when half of all calls in the window failed, also before the first failure."""
    origin_circuits = OriginCircuits("http://a.test:80")
    for failed in (*[False] * 2 * MIN_FAILURES, *[True] * MIN_FAILURES):
        origin_circuits.record("ada", origin_circuits.acquire_permission("ada"), failed)
    assert origin_circuits.state == "closed"
    clock.now += WINDOW_SECONDS / 2  # The successes are still in the window.
    origin_circuits.record("ada", origin_circuits.acquire_permission("ada"), True)
    assert origin_circuits.state == "closed"
    for _ in range(MIN_FAILURES - 1):
        origin_circuits.record("ada", origin_circuits.acquire_permission("ada"), True)
    assert origin_circuits.state == "open"
    for _ in range(2 * MIN_FAILURES):
        origin_circuits.record("eve", origin_circuits.acquire_permission("eve"), False)
    clock.now += WINDOW_SECONDS  # These are not.
    for _ in range(MIN_FAILURES):
        origin_circuits.record("eve", origin_circuits.acquire_permission("eve"), True)
    with pytest.raises(CallNotPermitted):
        origin_circuits.check("eve")


def test_many_callers(clock):
    """The number of callers in memory is limited."""
    origin_circuits = OriginCircuits("http://a.test:80")
    for caller in range(MAX_CALLERS_PER_ORIGIN + 10):
        record_failures(origin_circuits, caller, MIN_FAILURES)
    assert len(origin_circuits._by_caller) == MAX_CALLERS_PER_ORIGIN


def record_failures(origin_circuits, caller, times):
    for _ in range(times):
        origin_circuits.record(caller, (False, False), has_failed=True)


@pytest.mark.parametrize("part", ["nothing", "some", "everything"])
async def test_slow_callers_are_no_failures(upstream, part):
    """A deadline that passes while the caller uses chunks means nothing about the server."""

    async def call():
        async with outbound.stream("GET", upstream.url("/ok"), deadline=3) as response:
            if part != "nothing":
                async for _ in response:
                    if part == "some":
                        await asyncio.sleep(30)
            await asyncio.sleep(30)

    outcomes = await asyncio.gather(*(call() for _ in range(MIN_FAILURES + 1)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {outbound.TimedOut}
    assert outbound.state().origins == ()


async def test_overload_of_a_working_server(upstream, allow):
    """An overloaded server answers as many calls as it can, and its circuit stays closed."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    calls = []
    for _ in range(100):
        calls.append(asyncio.create_task(outbound.get(upstream.url("/slow/0.2"), deadline=2, retries=0)))
        await asyncio.sleep(0.02)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {outbound.Response, outbound.TimedOut}
    assert sum(isinstance(outcome, outbound.Response) for outcome in outcomes) >= 12


async def test_short_remainder_of_a_deadline(upstream, allow):
    """A timeout is no failure of a server that received the call with little of its deadline left."""
    allow(upstream.address, OUTBOUND_PER_HOST=MIN_FAILURES)
    first = [asyncio.create_task(outbound.get(upstream.url("/slow/30"))) for _ in range(MIN_FAILURES)]
    await upstream.wait_until_busy(MIN_FAILURES)
    late = [outbound.get(upstream.url("/slow/30"), deadline=0.6, retries=0) for _ in range(MIN_FAILURES)]
    waiting = asyncio.gather(*late, return_exceptions=True)
    await asyncio.sleep(0.4)
    for call in first:
        call.cancel()
    assert {type(outcome) for outcome in await waiting} == {outbound.TimedOut}
    assert outbound.state().origins == ()


async def test_overload_of_a_dead_server(upstream, allow):
    """The circuit opens although most calls wait long for a slot."""
    allow(upstream.address, OUTBOUND_PER_HOST=10)
    calls = []
    for _ in range(100):
        calls.append(asyncio.create_task(outbound.get(upstream.url("/slow/30"), deadline=0.5, retries=0)))
        await asyncio.sleep(0.02)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {outbound.TimedOut, outbound.CircuitOpen}


async def test_unusable_responses_close_the_circuit(upstream, clock):
    """A probe with a response that is too large shows that the server works again."""
    origin_circuits = module.circuits.get(f"http://{upstream.address}")
    for _ in range(MIN_FAILURES):
        origin_circuits.record(None, (False, False), has_failed=True)
    clock.now += INITIAL_OPEN_SECONDS
    assert origin_circuits.state == "half-open"
    for _ in range(2):
        with pytest.raises(outbound.TooLarge):
            await outbound.get(upstream.url("/sized/100"), retries=0, max_bytes=50)
    assert origin_circuits.state == "closed"


async def test_refused_and_canceled_calls_are_no_failures(public_upstream, canary, allow, resolve_names):
    """Calls that the guard refuses, or that the caller cancels, open no circuit."""
    allow(ports=[canary.port, public_upstream.port])
    resolve_names({"bad.test": ["127.0.0.1"]})
    for _ in range(MIN_FAILURES + 1):
        with pytest.raises(outbound.Refused):
            await outbound.get(f"http://bad.test:{canary.port}/")
        call = asyncio.create_task(outbound.get(public_upstream.url("/slow/9")))
        await public_upstream.wait_until_busy()
        call.cancel()
        await asyncio.wait([call])
    assert not outbound.state().origins


async def test_redirects(upstream, allow):
    """The error does not reveal where a redirect led."""
    with CannedServer() as server:
        allow(upstream.address, server.address, OUTBOUND_PER_HOST=100)
        for _ in range(MIN_FAILURES):
            with pytest.raises(outbound.Unreachable):
                await outbound.get(server.url, retries=0)
        with pytest.raises(
            outbound.CircuitOpen, match=f"^{upstream.address} redirects to a server that was not"
        ) as error:
            await outbound.get(upstream.url(f"/redirect?to={server.url}"))
        assert server.address not in str(error.value)


async def test_state(upstream, allow):
    """outbound.state() reports calls, waiting calls and failures."""
    allow(upstream.address, OUTBOUND_PER_HOST=2)
    calls = [asyncio.create_task(outbound.get(upstream.url("/slow/30"))) for _ in range(5)]
    await upstream.wait_until_busy()
    state = outbound.state()
    assert (state.busy, state.total, state.looking_up, state.names_waiting) == (2, 512, 0, 0)
    (origin,) = state.origins
    assert (origin.origin, origin.busy, origin.waiting) == (f"http://{upstream.address}", 2, 3)
    assert (origin.circuit, origin.failed) == ("closed", 0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (outbound.state().busy, outbound.state().origins) == (0, ())
