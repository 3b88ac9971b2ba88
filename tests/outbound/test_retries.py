"""Calls that are tried again, and those that are not."""

import asyncio
import json
import logging
import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from notifications import outbound
from notifications.api import policy, task
from notifications.jobs.enqueueing import owners
from notifications.models import Attempt, Job
from notifications.outbound import retries
from notifications.signals import outbound_ended, outbound_retrying, outbound_started
from notifications.testing import run_jobs

from .upstream import Says


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Retries come at once, but for what the other side asks."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.mark.parametrize("failure", ["429", "502", "503", "504", "cut", "half"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_tried_again(upstream, failure, method):
    """An idempotent request is sent again after what may pass."""
    if (method, failure) == ("HEAD", "half"):
        return
    response = await outbound.request(method, upstream.url(f"/times?say={failure},{failure}"))
    assert (response.status, response.attempts) == (200, 3)
    assert [seen.method for seen in upstream.seen[-3:]] == [method] * 3


@pytest.mark.parametrize("status", [400, 404, 408, 500, 501])
async def test_other_statuses(upstream, status):
    """Other statuses are answers."""
    response = await outbound.get(upstream.url(f"/times?say={status}"))
    assert (response.status, response.attempts, len(upstream.seen)) == (status, 1, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("failure", ["503", "cut"])
async def test_not_idempotent(upstream, method, failure):
    """What may not be done twice is not sent twice, unless it has a key."""
    url = upstream.url(f"/times?say={failure}")
    if failure == "503":
        assert (await outbound.request(method, url, json={})).status == 503
    else:
        with pytest.raises(outbound.Unreachable):
            await outbound.request(method, url, json={})
    assert len(upstream.seen) == 1
    upstream.seen.clear()
    assert (await outbound.request(method, url, json={"a": 1}, idempotency_key=True)).status == 200
    first, second = upstream.seen
    assert first.body == second.body == b'{"a": 1}'
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


async def test_how_often(upstream):
    """`retries` is how often at most; then the last answer is the answer, or the last error the error."""
    response = await outbound.get(upstream.url("/times?say=503,503,503"))
    assert (response.status, response.attempts) == (503, 3)
    assert (await outbound.get(upstream.url("/times?say=502,502"), retries=0)).attempts == 1
    with pytest.raises(outbound.Unreachable):
        await outbound.get(upstream.url("/times?say=cut,cut,cut"), retries=1)
    upstream.seen.clear()
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="It must be a whole number from 0"):
            await outbound.get(upstream.url(), retries=wrong)
    assert not upstream.seen


async def test_redirects_share_the_retries(upstream):
    """A redirect is not asked for again when what it leads to fails, and there are not more retries for it."""
    response = await outbound.get(upstream.url("/redirect?to=/times?say=503,503,503"), retries=2)
    assert (response.status, response.attempts) == (503, 3)
    assert [seen.path.split("?")[0] for seen in upstream.seen] == ["/redirect", "/times", "/times", "/times"]


@pytest.mark.parametrize("refused", ["not-http", "name", "guard", "large"])
async def test_what_does_not_pass(upstream, allow, stands_for, refused):
    """What will not be otherwise the next time is not tried again."""
    stands_for({})
    with Says(b"SSH-2.0\r\n") as says:
        allow(says.address, upstream.place)
        url = {
            "not-http": says.url,
            "name": "http://nowhere.test/",
            "guard": "http://10.0.0.1/",
            "large": upstream.url("/sized/100"),
        }[refused]
        events = []
        outbound_retrying.connect(lambda **told: events.append(told), weak=False, dispatch_uid="test")
        try:
            with pytest.raises(outbound.OutboundError):
                await outbound.get(url, max_bytes=10)
        finally:
            outbound_retrying.disconnect(dispatch_uid="test")
        assert not events
        assert says.asked <= 1


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_waited_for(upstream, form):
    """It is not tried again before the time that the other side asks for, in seconds or as a date."""
    wait = (
        "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    )
    started = asyncio.get_running_loop().time()
    assert (await outbound.get(upstream.url("/times"), params={"say": "503", "wait": wait})).status == 200
    assert asyncio.get_running_loop().time() - started >= 0.9


@pytest.mark.parametrize("wait", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_retry_after_beyond_the_deadline(upstream, wait):
    """What would come after the deadline is not waited for: the answer is the answer, and says how long."""
    async with asyncio.timeout(3):
        response = await outbound.get(upstream.url("/times"), params={"say": "429", "wait": wait}, deadline=5)
    assert (response.status, response.attempts) == (429, 1)
    with pytest.raises(outbound.Unavailable, match=r"answered with status 429 \(Too Many Requests\)") as busy:
        response.raise_for_status()
    assert busy.value.status == 429
    assert busy.value.retry_after >= 3600
    assert isinstance(busy.value, outbound.TEMPORARY)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", math.inf),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("9" * 500, None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after(header, seconds):
    """Retry-After (RFC 9110, section 10.2.3) is seconds or a date; anything else says nothing."""
    found = retries.retry_after({"Retry-After": header})
    if seconds == math.inf:
        assert found > 1e11
    else:
        assert found == seconds


def test_pause(monkeypatch):
    """Full jitter: anything from nothing to twice as much with each retry; never beyond half of what is left."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    assert [retries.pause(retry, None, 1000) for retry in (1, 2, 3, 6)] == [0.5, 1, 2, 10]
    assert retries.pause(3, None, 1) == 0.5
    assert retries.pause(1, 4, 10) == 4.5
    assert retries.pause(1, 4, 4.5) == 4.25
    assert retries.pause(1, 4, 4) is None
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert [retries.pause(1, asked, 10) for asked in (None, 4)] == [0, 4]


@task
@policy(retry_on=outbound.TEMPORARY, max_attempts=2)
async def fetch(url):
    (await outbound.get(url)).raise_for_status()


@pytest.mark.django_db
def test_retry_after_in_a_job(upstream):
    """In a job, a Retry-After beyond the deadline is the time before which the job does not run again."""
    job = Job.objects.get(pk=fetch.enqueue(upstream.url("/times?say=503&wait=600")).id)
    run_jobs()
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    assert timedelta(seconds=590) < job.run_after - datetime.now(UTC) < timedelta(seconds=600)
    assert len(upstream.seen) == 1
    assert Attempt.objects.get(job=job.pk).exception_class_path == "notifications.outbound.errors.Unavailable"


@pytest.mark.parametrize("wrong", ["", "a b", "ä", "a\n", "a" * 201, 7, None])
async def test_wrong_keys(upstream, wrong):
    """A key is visible ASCII."""
    with pytest.raises(ValueError, match="It must be True or 1 to 200 visible ASCII characters"):
        await outbound.post(upstream.url(), idempotency_key=wrong)


async def test_keys(upstream):
    """Each call has a key of its own, made once; a key of one's own is sent as it is; without one none is sent."""
    for key in (True, True, "mine"):
        await outbound.post(upstream.url("/ok"), idempotency_key=key)
    await outbound.post(upstream.url("/ok"))
    keys = [seen.headers.get("Idempotency-Key") for seen in upstream.seen]
    assert keys[2:] == ["mine", None]
    assert len(set(keys)) == 4


async def test_keys_in_a_job(upstream, db):
    """Another attempt at a job sends the same keys, also for several equal requests at once; another job others."""

    async def attempt(job):
        owners.set_running_job(None, job)
        posts = [outbound.post(upstream.url("/ok"), json=body, idempotency_key=True) for body in (1, 1, 2)]
        upstream.seen.clear()
        await asyncio.gather(*posts)
        return sorted((seen.body, seen.headers["Idempotency-Key"]) for seen in upstream.seen)

    one, other = Job().pk, Job().pk
    first = await asyncio.create_task(attempt(one))
    assert await asyncio.create_task(attempt(one)) == first
    assert len({key for _, key in first}) == 3
    assert not {key for _, key in first} & {key for _, key in await asyncio.create_task(attempt(other))}


async def test_signals_and_log(upstream, caplog):
    """Signals and log tell start, retry and end, with host, status, duration and bytes, and no secret."""
    caplog.set_level(logging.DEBUG, "notifications.outbound")
    events = []

    def hear(signal, sender, **told):
        events.append((signal, told))

    signals = (outbound_started, outbound_retrying, outbound_ended)
    for signal in signals:
        signal.connect(hear, dispatch_uid="test")
    try:
        await outbound.get(upstream.url("/times?say=503&token=secret"), headers={"X-Key": "secret"})
        with pytest.raises(outbound.TooLarge):
            await outbound.get(upstream.url("/sized/100?token=secret"), max_bytes=5)
    finally:
        for signal in signals:
            signal.disconnect(dispatch_uid="test")
    assert [signal for signal, _ in events] == [
        outbound_started, outbound_retrying, outbound_ended, outbound_started, outbound_ended,
    ]  # fmt: skip
    start, retry, end, _, large = (told for _, told in events)
    assert (start["method"], start["host"], start["attempt"]) == ("GET", upstream.place, 1)
    assert (retry["status"], retry["error"], retry["attempt"], retry["id"]) == (503, None, 1, start["id"])
    assert (end["status"], end["error"], end["bytes"], end["attempt"]) == (200, None, 2, 2)
    assert 0 < end["duration"] < 30
    assert isinstance(large["error"], outbound.TooLarge)
    assert f"GET {upstream.place} ended with 503 at attempt 1 and is tried again in" in caplog.text
    assert "ended with 200 after" in caplog.text
    assert "ended with TooLarge after" in caplog.text
    assert "secret" not in caplog.text + json.dumps(events, default=repr)


async def test_receivers_that_fail(upstream, caplog):
    """A receiver that raises, or is a coroutine function, harms no call."""

    def bad(**_):
        raise RuntimeError("bad receiver")

    async def worse(**_):
        pass

    for receiver in (bad, worse):
        outbound_started.connect(receiver, dispatch_uid="test")
        try:
            assert (await outbound.get(upstream.url("/ok"))).status == 200
        finally:
            outbound_started.disconnect(dispatch_uid="test")
    assert "must be sync functions" in caplog.text


async def test_a_kept_connection_that_was_closed(allow):
    """A connection that the other side closed meanwhile costs no attempt where it is safe, and one error where not."""
    with Says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", again=True) as says:
        allow(says.address)
        said = says.said
        for method, error in (("GET", None), ("POST", outbound.Unreachable)):
            says.said, says.hang_up = said, False
            assert (await outbound.request(method, says.url)).attempts == 1
            says.hang_up = True  # at the next request on a connection that had one
            if error is None:
                assert (await outbound.request(method, says.url)).attempts == 1
            else:
                with pytest.raises(error):
                    await outbound.request(method, says.url)
