"""Servers that fail are left alone for a while, and asked carefully whether they are back."""

import asyncio
import contextlib
import errno
import logging
from urllib.parse import quote

import pytest

from notifications import outbound
from notifications.api import requester
from notifications.jobs.enqueueing.owners import set_running_job
from notifications.outbound import circuits as module
from notifications.outbound import pools
from notifications.outbound.circuits import (
    ENOUGH,
    FIRST_PAUSE,
    LAST_PAUSE,
    MAX_CALLER_FAILURES,
    MAX_CALLERS,
    MAX_CIRCUITS,
    MIN_CALLERS,
    PROBE,
    WINDOW,
    Breaker,
    Circuit,
    Circuits,
    Open,
)

from .upstream import Says


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set: clock.now."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def end(circuit, *, failed, times=1):
    for _ in range(times):
        circuit.leave(probe=circuit.enter(), failed=failed)


def opened():
    circuit = Circuit("http://a.test:80", "one caller")
    end(circuit, failed=True, times=ENOUGH)
    assert circuit.state == "open"
    return circuit


def test_opens(clock):
    """It opens when enough calls have failed, and not one earlier."""
    circuit = Circuit("http://a.test:80", "one caller")
    end(circuit, failed=True, times=ENOUGH - 1)
    assert circuit.state == "closed"
    end(circuit, failed=True)
    with pytest.raises(Open) as refused:
        circuit.enter()
    assert refused.value.seconds == FIRST_PAUSE


def test_rate(clock):
    """It stays closed while more calls succeed than fail."""
    circuit = Circuit("http://a.test:80", "one caller")
    for _ in range(ENOUGH * 3):
        end(circuit, failed=False, times=2)
        end(circuit, failed=True)
    assert circuit.state == "closed"
    end(circuit, failed=True, times=ENOUGH * 3)
    assert circuit.state == "open"


def test_window(clock):
    """What is longer ago than the window does not count."""
    circuit = Circuit("http://a.test:80", "one caller")
    end(circuit, failed=True, times=ENOUGH - 1)
    clock.now += WINDOW
    end(circuit, failed=True, times=ENOUGH - 1)
    assert circuit.state == "closed"
    clock.now += WINDOW / 2
    end(circuit, failed=True)
    assert circuit.state == "open"


def test_what_says_nothing(clock):
    """Calls that were cancelled or refused count neither way."""
    circuit = Circuit("http://a.test:80", "one caller")
    end(circuit, failed=None, times=ENOUGH * 2)
    assert circuit.counts == (0, 0)


def test_probes(clock):
    """After the pause one call at a time goes out; two good ones close it."""
    circuit = opened()
    clock.now += FIRST_PAUSE
    assert circuit.state == "half-open"
    assert circuit.enter() is True
    with pytest.raises(Open):
        circuit.enter()
    circuit.leave(probe=True, failed=False)
    assert circuit.state == "half-open"
    assert circuit.enter() is True
    circuit.leave(probe=True, failed=False)
    assert circuit.state == "closed"
    assert circuit.counts == (0, 0)
    assert circuit.enter() is False


def test_a_bad_probe(clock):
    """A bad probe opens it again, for twice as long each time, up to a bound."""
    circuit, pause = opened(), FIRST_PAUSE
    for _ in range(8):
        clock.now += pause
        end(circuit, failed=True)
        pause = min(pause * 2, LAST_PAUSE)
        with pytest.raises(Open) as refused:
            circuit.check()
        assert refused.value.seconds == pause
    assert pause == LAST_PAUSE


def test_a_probe_that_says_nothing(clock):
    """A probe that was cancelled leaves its turn to the next, and so does one that never comes back."""
    circuit = opened()
    clock.now += FIRST_PAUSE
    end(circuit, failed=None)
    assert circuit.enter() is True
    clock.now += PROBE
    assert circuit.enter() is True


def test_many_origins():
    """The memory is bounded."""
    circuits = Circuits()
    for number in range(MAX_CIRCUITS + 10):
        circuits.at(f"http://{number}.test:80")
    assert len(circuits.all()) == MAX_CIRCUITS


@pytest.mark.parametrize("failure", ["503", "silence", "timeout"])
async def test_calls(upstream, allow, clock, caplog, failure):
    """A server that fails is not called any more, and called again when its pause is over; another one is."""
    caplog.set_level(logging.INFO, "notifications.outbound")
    with Says(keep=False) as says:
        allow(upstream.place, says.address, OUTBOUND_PER_HOST=100)
        url = {"503": upstream.url("/status/503"), "silence": says.url, "timeout": upstream.url("/slow/9")}[
            failure
        ]
        options = {"retries": 0, "deadline": 0.2 if failure == "timeout" else 10}
        await asyncio.gather(*[outbound.get(url, **options) for _ in range(ENOUGH)], return_exceptions=True)
        before = len(upstream.seen) + says.asked
        assert before == ENOUGH
        with pytest.raises(outbound.CircuitOpen) as alone:
            await outbound.get(url, retries=5)
        place = says.address if failure == "silence" else upstream.place
        assert str(alone.value) == (
            f"{place} was not called: it has failed too often. It is tried again in {FIRST_PAUSE:g} s."
        )
        assert alone.value.retry_after == FIRST_PAUSE
        assert isinstance(alone.value, outbound.TEMPORARY)
        assert len(upstream.seen) + says.asked == before
        assert (
            f"The circuit of http://{place} is open for one caller for 10 s: 20 of 20 calls failed."
            in caplog.text
        )
        if failure == "503":
            clock.now += FIRST_PAUSE
            for _ in range(2):
                await outbound.get(upstream.url("/ok"))
            assert [origin.circuit for origin in outbound.state().origins] == ["closed"]
            assert f"The circuit of http://{place} is closed again for one caller." in caplog.text


async def test_what_waits_for_a_place(upstream, allow):
    """Calls that wait for a place are not sent either once the circuit is open."""
    allow(upstream.place, OUTBOUND_PER_HOST=2)
    calls = [outbound.get(upstream.url("/status/503"), retries=0) for _ in range(ENOUGH * 2)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(end, outbound.CircuitOpen) for end in ends) >= ENOUGH - 2
    assert len(upstream.seen) <= ENOUGH + 1


@pytest.mark.parametrize(
    "path", ["/status/404", "/status/500", "/status/429", "/sized/100", "/redirect?to=http://10.0.0.1/"]
)
async def test_what_is_no_failure(upstream, path):
    """A 404, a 500 or a redirect is about one URL, a 429 about the caller, and a large body about neither."""
    for _ in range(ENOUGH + 1):
        with contextlib.suppress(outbound.TooLarge, outbound.Refused):
            await outbound.get(upstream.url(path), retries=0, max_bytes=50)
    assert (await outbound.get(upstream.url("/ok"))).status == 200
    assert outbound.state().origins == ()


async def test_endless_redirects_are_no_failure(upstream):
    to = "/ok"
    for _ in range(6):
        to = f"/redirect?to={quote(to)}"
    for _ in range(ENOUGH + 1):
        with pytest.raises(outbound.BadResponse, match="redirects more than 5 times"):
            await outbound.get(upstream.url(to), retries=0)
    assert outbound.state().origins == ()


async def test_what_this_process_lacks_is_no_failure(outside, monkeypatch):
    """A call that gets no file descriptor says nothing about the server."""

    def no_descriptor(info):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pools, "checked_socket", no_descriptor)
    for _ in range(ENOUGH):
        with pytest.raises(outbound.Unreachable):
            await outbound.get(outside.url("/ok"), retries=0)
    assert outbound.state().origins == ()


@pytest.mark.parametrize("failure", ["503", "timeout"])
async def test_one_callers_failures_refuse_nobody_else(upstream, allow, failure):
    """The URLs of one user fail, those of another at the same server do not, nor those of no user."""
    allow(upstream.place, OUTBOUND_PER_HOST=100)
    url = upstream.url("/status/503" if failure == "503" else "/slow/9")
    deadline = 0.2 if failure == "timeout" else 10
    with requester(1):
        calls = [outbound.get(url, retries=0, deadline=deadline) for _ in range(ENOUGH * 2)]
        await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(outbound.CircuitOpen):
            await outbound.get(upstream.url("/ok"))
    with requester(2):
        assert (await outbound.get(upstream.url("/ok"))).status == 200
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_the_owner_of_a_job_is_its_caller(upstream):
    """Also in the tasks that the job starts."""

    async def job(owner, path):
        set_running_job(owner)
        return await asyncio.gather(
            *[outbound.get(upstream.url(path), retries=0) for _ in range(ENOUGH + 1)], return_exceptions=True
        )

    await asyncio.create_task(job(1, "/status/503"))
    refused = await asyncio.create_task(job(1, "/ok"))
    assert {type(end) for end in refused} == {outbound.CircuitOpen}
    answered = await asyncio.create_task(job(2, "/ok"))
    assert {type(end) for end in answered} == {outbound.Response}


async def test_failures_of_three_callers_refuse_all(upstream, clock, caplog):
    """So they are the server's. One caller alone gets nowhere near, however often it fails."""
    caplog.set_level(logging.INFO, "notifications.outbound")
    breaker = module.circuits.at(f"http://{upstream.place}")
    for _ in range(5):
        fail(breaker, 1, ENOUGH)
        clock.now += FIRST_PAUSE
    fail(breaker, 2, MAX_CALLER_FAILURES)
    assert breaker.of_all.state == "closed"
    fail(breaker, 3, MAX_CALLER_FAILURES)
    assert breaker.of_all.state == "open"
    assert f"The circuit of http://{upstream.place} is open for all callers for 10 s" in caplog.text
    with requester(4), pytest.raises(outbound.CircuitOpen):
        await outbound.get(upstream.url("/ok"))
    clock.now += FIRST_PAUSE
    with requester(4):
        for _ in range(2):
            await outbound.get(upstream.url("/ok"))
    assert breaker.of_all.state == "closed"


def test_answers_to_others_keep_it_closed_for_all(clock):
    """Three callers fail as often as they like; of their failures no more count than calls of others succeed."""
    breaker = Breaker("http://a.test:80")
    for _ in range(MIN_CALLERS * MAX_CALLER_FAILURES + 1):
        breaker.leave("good", (False, False), failed=False)
    for caller in range(MIN_CALLERS):
        fail(breaker, caller, 10 * ENOUGH)
    assert breaker.of_all.state == "closed"


def test_good_calls_before_a_callers_first_failure_count(clock):
    """Its circuit opens when half of all its calls within the window have failed, not at its first failures."""
    breaker = Breaker("http://a.test:80")
    for failed in (*[False] * 2 * ENOUGH, *[True] * ENOUGH):
        breaker.leave("ada", breaker.enter("ada"), failed)
    assert breaker.state == "closed"
    clock.now += WINDOW / 2  # the good ones are still within the window
    breaker.leave("ada", breaker.enter("ada"), True)
    assert breaker.state == "closed"
    for _ in range(ENOUGH - 1):
        breaker.leave("ada", breaker.enter("ada"), True)
    assert breaker.state == "open"
    for _ in range(2 * ENOUGH):
        breaker.leave("eve", breaker.enter("eve"), False)
    clock.now += WINDOW  # and these are not
    for _ in range(ENOUGH):
        breaker.leave("eve", breaker.enter("eve"), True)
    with pytest.raises(Open):
        breaker.check("eve")


def test_callers_are_bounded(clock):
    """A caller whose circuit is closed again, and the first of very many, is forgotten."""
    breaker = Breaker("http://a.test:80")
    for caller in range(MAX_CALLERS + 10):
        fail(breaker, caller, 1)
    assert len(breaker._of_callers) == MAX_CALLERS


def fail(breaker, caller, times):
    for _ in range(times):
        breaker.leave(caller, (False, False), failed=True)


@pytest.mark.parametrize("read", ["not at all", "in part", "whole"])
async def test_a_caller_that_is_slow_is_no_failure(upstream, read):
    """A deadline that passes while the pieces of an answer are used says nothing about the server."""
    for _ in range(ENOUGH + 1):
        with pytest.raises(outbound.TimedOut):
            async with outbound.stream("GET", upstream.url("/ok"), deadline=0.1) as answer:
                if read != "not at all":
                    async for _ in answer:
                        if read == "in part":
                            await asyncio.sleep(30)
                await asyncio.sleep(30)
    assert outbound.state().origins == ()


async def test_more_calls_than_a_good_server_answers(upstream, allow):
    """It answers as many as it can, gets no calls that are over in a moment, and is not to blame for any."""
    allow(upstream.place, OUTBOUND_PER_HOST=1)
    calls = []
    for _ in range(100):
        calls.append(asyncio.create_task(outbound.get(upstream.url("/slow/0.2"), deadline=2, retries=0)))
        await asyncio.sleep(0.02)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {outbound.Response, outbound.TimedOut}
    assert sum(isinstance(end, outbound.Response) for end in ends) >= 12


async def test_what_is_left_of_a_deadline(upstream, allow):
    """A server that gets a call when most of its time is over is not to blame for having no answer in the rest."""
    allow(upstream.place, OUTBOUND_PER_HOST=ENOUGH)
    first = [asyncio.create_task(outbound.get(upstream.url("/slow/0.4"))) for _ in range(ENOUGH)]
    await upstream.busy()
    late = [outbound.get(upstream.url("/slow/0.4"), deadline=0.6, retries=0) for _ in range(ENOUGH)]
    ends = await asyncio.gather(*late, return_exceptions=True)
    assert {type(end) for end in ends} == {outbound.TimedOut}
    assert {answer.status for answer in await asyncio.gather(*first)} == {200}
    assert outbound.state().origins == ()


async def test_more_calls_than_a_dead_server_answers(upstream, allow):
    """It is still found out, although most of them wait for a place for long."""
    allow(upstream.place, OUTBOUND_PER_HOST=10)
    calls = []
    for _ in range(100):
        calls.append(asyncio.create_task(outbound.get(upstream.url("/slow/30"), deadline=0.5, retries=0)))
        await asyncio.sleep(0.02)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {outbound.TimedOut, outbound.CircuitOpen}


async def test_answers_that_are_too_large_close_it(upstream, clock):
    """A probe whose answer came, and was of no use, has shown that the server is back."""
    breaker = module.circuits.at(f"http://{upstream.place}")
    for _ in range(ENOUGH):
        breaker.leave(None, (False, False), failed=True)
    clock.now += FIRST_PAUSE
    assert breaker.state == "half-open"
    for _ in range(2):
        with pytest.raises(outbound.TooLarge):
            await outbound.get(upstream.url("/sized/100"), retries=0, max_bytes=50)
    assert breaker.state == "closed"


async def test_refused_and_cancelled_calls_are_no_failures(outside, everywhere, allow, stands_for):
    """What the guard refuses, and what the caller gives up, opens no circuit."""
    allow(ports=[everywhere.port, outside.port])
    stands_for({"bad.test": ["127.0.0.1"]})
    for _ in range(ENOUGH + 1):
        with pytest.raises(outbound.Refused):
            await outbound.get(f"http://bad.test:{everywhere.port}/")
        call = asyncio.create_task(outbound.get(outside.url("/slow/9")))
        await outside.busy()
        call.cancel()
        await asyncio.wait([call])
    assert not outbound.state().origins


async def test_redirects(upstream, allow):
    """Where a redirect led is not told by this error either."""
    with Says() as says:
        allow(upstream.place, says.address, OUTBOUND_PER_HOST=100)
        for _ in range(ENOUGH):
            with pytest.raises(outbound.Unreachable):
                await outbound.get(says.url, retries=0)
        with pytest.raises(
            outbound.CircuitOpen, match=f"^{upstream.place} redirects to a server that was not"
        ) as alone:
            await outbound.get(upstream.url(f"/redirect?to={says.url}"))
        assert says.address not in str(alone.value)


async def test_state(upstream, allow):
    """What is under way, waits and fails can be seen."""
    allow(upstream.place, OUTBOUND_PER_HOST=2, OUTBOUND_TOTAL=7)
    calls = [asyncio.create_task(outbound.get(upstream.url("/slow/30"))) for _ in range(5)]
    await upstream.busy()
    state = outbound.state()
    assert (state.busy, state.total, state.looking_up, state.names_waiting) == (2, 7, 0, 0)
    (origin,) = state.origins
    assert (origin.origin, origin.busy, origin.waiting) == (f"http://{upstream.place}", 2, 3)
    assert (origin.circuit, origin.failed) == ("closed", 0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (outbound.state().busy, outbound.state().origins) == (0, ())
