"""Retries: which requests are sent again, and when."""

import asyncio
import json
import logging
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from notifications import outbound
from notifications.api import policy, task
from notifications.models import Attempt, Job
from notifications.outbound import attempts
from notifications.signals import outbound_ended, outbound_retrying, outbound_started
from notifications.testing import run_jobs

from .upstream import CannedServer


@pytest.fixture(autouse=True)
def short_delays(set_bounds):
    """Retry without delay, except for Retry-After."""
    set_bounds(retries=0.001)


@pytest.mark.parametrize("failure", ["429", "502", "503", "504", "cut", "half"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_retried(upstream, failure, method):
    """An idempotent request is sent again after a transient failure."""
    if (method, failure) == ("HEAD", "half"):
        return
    response = await outbound.request(method, upstream.url(f"/sequence?statuses={failure},{failure}"))
    assert (response.status, response.attempts) == (200, 3)
    assert [received.method for received in upstream.requests[-3:]] == [method] * 3


@pytest.mark.parametrize("status", [400, 404, 408, 500, 501])
async def test_other_statuses(upstream, status):
    """Other statuses are not retried."""
    response = await outbound.get(upstream.url(f"/sequence?statuses={status}"))
    assert (response.status, response.attempts, len(upstream.requests)) == (status, 1, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("failure", ["503", "cut"])
async def test_not_idempotent(upstream, method, failure):
    """A request that is not idempotent is sent once, unless it has an Idempotency-Key."""
    url = upstream.url(f"/sequence?statuses={failure}")
    if failure == "503":
        assert (await outbound.request(method, url, json={})).status == 503
    else:
        with pytest.raises(outbound.Unreachable):
            await outbound.request(method, url, json={})
    assert len(upstream.requests) == 1
    upstream.requests.clear()
    assert (await outbound.request(method, url, json={"a": 1}, idempotency_key=True)).status == 200
    first, second = upstream.requests
    assert first.body == second.body == b'{"a": 1}'
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


async def test_number_of_retries(upstream):
    """`retries` is the maximum; then the last response is returned, or the last error raised."""
    response = await outbound.get(upstream.url("/sequence?statuses=503,503,503"))
    assert (response.status, response.attempts) == (503, 3)
    assert (await outbound.get(upstream.url("/sequence?statuses=502,502"), retries=0)).attempts == 1
    with pytest.raises(outbound.Unreachable):
        await outbound.get(upstream.url("/sequence?statuses=cut,cut,cut"), retries=1)
    upstream.requests.clear()
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="It must be an integer of 0 or more"):
            await outbound.get(upstream.url(), retries=wrong)
    assert not upstream.requests


async def test_redirects_share_the_retries(upstream):
    """A redirect is not requested again when its target fails, and the target gets no retries of its own."""
    response = await outbound.get(upstream.url("/redirect?to=/sequence?statuses=503,503,503"), retries=2)
    assert (response.status, response.attempts) == (503, 3)
    assert [received.path.split("?")[0] for received in upstream.requests] == [
        "/redirect",
        "/sequence",
        "/sequence",
        "/sequence",
    ]


@pytest.mark.parametrize("failure", ["not-http", "name", "guard", "large"])
async def test_permanent_errors(upstream, allow, resolve_names, failure):
    """Permanent errors are not retried."""
    resolve_names({})
    with CannedServer(b"SSH-2.0\r\n") as server:
        allow(server.address, upstream.address)
        url = {
            "not-http": server.url,
            "name": "http://nowhere.test/",
            "guard": "http://10.0.0.1/",
            "large": upstream.url("/sized/100"),
        }[failure]
        events = []
        outbound_retrying.connect(
            lambda **arguments: events.append(arguments), weak=False, dispatch_uid="test"
        )
        try:
            with pytest.raises(outbound.OutboundError):
                await outbound.get(url, max_bytes=10)
        finally:
            outbound_retrying.disconnect(dispatch_uid="test")
        assert not events
        assert server.request_count <= 1


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after(upstream, form):
    """A retry waits for Retry-After, in seconds or as a date."""
    wait = (
        "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    )
    started = asyncio.get_running_loop().time()
    assert (
        await outbound.get(upstream.url("/sequence"), params={"statuses": "503", "retry_after": wait})
    ).status == 200
    assert asyncio.get_running_loop().time() - started >= 0.9


@pytest.mark.parametrize("wait", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_retry_after_beyond_the_deadline(upstream, wait):
    """With a Retry-After beyond the deadline the response is returned at once, and its error has retry_after."""
    async with asyncio.timeout(3):
        response = await outbound.get(
            upstream.url("/sequence"), params={"statuses": "429", "retry_after": wait}, deadline=5
        )
    assert (response.status, response.attempts) == (429, 1)
    with pytest.raises(
        outbound.Unavailable, match=r"answered with status 429 \(Too Many Requests\)"
    ) as error:
        response.raise_for_status()
    assert error.value.status == 429
    assert error.value.retry_after >= 3600
    assert isinstance(error.value, outbound.TEMPORARY)


def test_retry_delay(monkeypatch, set_bounds):
    """Full jitter: the maximum doubles with each retry, up to half of the time left."""
    set_bounds(retries=0.5)
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    assert [attempts.retry_delay(retry, None, 1000) for retry in (1, 2, 3, 6)] == [0.5, 1, 2, 10]
    assert attempts.retry_delay(3, None, 1) == 0.5
    assert attempts.retry_delay(1, 4, 10) == 4.5
    assert attempts.retry_delay(1, 4, 4.5) == 4.25
    assert attempts.retry_delay(1, 4, 4) is None
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert [attempts.retry_delay(1, retry_after, 10) for retry_after in (None, 4)] == [0, 4]


@task
@policy(retry_on=outbound.TEMPORARY, max_attempts=2)
async def fetch(url):
    (await outbound.get(url)).raise_for_status()


@pytest.mark.django_db
def test_retry_after_in_a_job(upstream):
    """In a job, a Retry-After beyond the deadline delays the next attempt."""
    job = Job.objects.get(pk=fetch.enqueue(upstream.url("/sequence?statuses=503&retry_after=600")).id)
    run_jobs()
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    assert timedelta(seconds=590) < job.run_after - datetime.now(UTC) < timedelta(seconds=600)
    assert len(upstream.requests) == 1
    assert Attempt.objects.get(job=job.pk).exception_class_path == "notifications.outbound.errors.Unavailable"


@pytest.mark.parametrize("wrong", ["", "a b", "ä", "a\n", "a" * 201, 7, None])
async def test_invalid_keys(upstream, wrong):
    """A key is 1 to 200 visible ASCII characters."""
    with pytest.raises(ValueError, match="It must be True or 1 to 200 visible ASCII characters"):
        await outbound.post(upstream.url(), idempotency_key=wrong)


async def test_keys(upstream):
    """Each call has one generated key, or sends the given one; without the option none is sent."""
    for key in (True, True, "own"):
        await outbound.post(upstream.url("/ok"), idempotency_key=key)
    await outbound.post(upstream.url("/ok"))
    keys = [received.headers.get("Idempotency-Key") for received in upstream.requests]
    assert keys[2:] == ["own", None]
    assert len(set(keys)) == 4


async def test_signals_and_log(upstream, caplog):
    """Signals and log report start, retry and end, with host, status, duration and bytes, and no secret."""
    caplog.set_level(logging.DEBUG, "notifications.outbound")
    events = []

    def receive(signal, sender, **arguments):
        events.append((signal, arguments))

    signals = (outbound_started, outbound_retrying, outbound_ended)
    for signal in signals:
        signal.connect(receive, dispatch_uid="test")
    try:
        await outbound.get(upstream.url("/sequence?statuses=503&token=secret"), headers={"X-Key": "secret"})
        with pytest.raises(outbound.TooLarge):
            await outbound.get(upstream.url("/sized/100?token=secret"), max_bytes=5)
    finally:
        for signal in signals:
            signal.disconnect(dispatch_uid="test")
    assert [signal for signal, _ in events] == [
        outbound_started, outbound_retrying, outbound_ended, outbound_started, outbound_ended,
    ]  # fmt: skip
    start, retry, end, _, large = (arguments for _, arguments in events)
    assert (start["method"], start["host"], start["attempt"]) == ("GET", upstream.address, 1)
    assert (retry["status"], retry["error"], retry["attempt"], retry["id"]) == (503, None, 1, start["id"])
    assert (end["status"], end["error"], end["bytes"], end["attempt"]) == (200, None, 2, 2)
    assert 0 < end["duration"] < 30
    assert isinstance(large["error"], outbound.TooLarge)
    assert f"GET {upstream.address}, attempt 1 ended with 503, next in" in caplog.text
    assert f"GET {upstream.address}, 200, " in caplog.text
    assert f"GET {upstream.address}, TooLarge, " in caplog.text
    assert "secret" not in caplog.text + json.dumps(events, default=repr)


async def test_failing_receivers(upstream, caplog):
    """A receiver that raises, or is a coroutine function, does not affect the call."""

    def raising(**_):
        raise RuntimeError("bad receiver")

    async def coroutine_function(**_):
        pass

    for receiver in (raising, coroutine_function):
        outbound_started.connect(receiver, dispatch_uid="test")
        try:
            assert (await outbound.get(upstream.url("/ok"))).status == 200
        finally:
            outbound_started.disconnect(dispatch_uid="test")
    assert "must be synchronous functions" in caplog.text


async def test_closed_kept_connection(allow):
    """A kept connection that the server has closed costs an idempotent request no attempt, and others one error."""
    with CannedServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", keep_alive=True) as server:
        allow(server.address)
        for method, error in (("GET", None), ("POST", outbound.Unreachable)):
            server.closes_kept = False
            assert (await outbound.request(method, server.url)).attempts == 1
            server.closes_kept = True  # At the next request on the kept connection.
            if error is None:
                assert (await outbound.request(method, server.url)).attempts == 1
            else:
                with pytest.raises(error):
                    await outbound.request(method, server.url)
