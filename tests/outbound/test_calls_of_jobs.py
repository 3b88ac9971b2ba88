"""Outbound calls of jobs: their keys, slots and circuits."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async

from notifications import outbound
from notifications.api import policy, task
from notifications.models import Job
from notifications.testing import run_jobs, run_until_idle

pytestmark = pytest.mark.django_db(transaction=True)


@task
@policy(max_attempts=2, retry_on=(ValueError,), backoff=0)
async def post_alike(url):
    await asyncio.gather(*[outbound.post(url, json=body, idempotency_key=True) for body in (1, 1, 2)])
    raise ValueError


@task
async def get_at_once(urls, options):
    """Return the status of each call, or its error."""
    calls = [outbound.get(url, **options) for url in urls]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return [getattr(outcome, "status", f"{type(outcome).__name__}: {outcome}") for outcome in outcomes]


def result_of(job):
    run_jobs()
    return json.loads(Job.objects.get(id=job.id).result)


def test_keys(upstream):
    """Another attempt sends the same keys, also for equal concurrent requests; another job does not."""

    def run_both_attempts():
        upstream.requests.clear()
        post_alike.enqueue(upstream.url("/ok"))
        run_until_idle()
        sent = [(received.body, received.headers["Idempotency-Key"]) for received in upstream.requests]
        return sorted(sent[:3]), sorted(sent[3:])

    (first, again), (other, _) = run_both_attempts(), run_both_attempts()
    assert first == again
    assert len({key for _, key in first + other}) == 6


def test_calls_wait_for_a_slot(upstream, allow):
    """As those of a plain gather(): the deadline of each begins when it has a slot, and is enforced then."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    urls = [*[upstream.url("/slow/0.25")] * 6, upstream.url("/slow/5")]
    *statuses, late = result_of(get_at_once.enqueue(urls, {"deadline": 1.2}))
    assert statuses == [200] * 6
    assert late.startswith("TimedOut: ") and "did not send a complete response within 1.2 s" in late


async def test_jobs_take_turns(event_loop_database, upstream, allow):
    """A job with many calls to a server, and a call outside jobs, take turns."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    await get_at_once.aenqueue([upstream.url("/slow/0.01")] * 20, {})
    working = asyncio.create_task(sync_to_async(run_jobs)())
    await upstream.wait_until_busy()
    before = len(upstream.requests)
    await outbound.get(upstream.url("/ok"))
    assert len(upstream.requests) <= before + 3
    await working


def test_the_owner_is_the_caller(upstream, user, other_user):
    """Also in asyncio tasks that the job starts: the failures of one user's URLs keep no other from the server."""

    def call(owner, path):
        urls = [upstream.url(path)] * 21
        return set(result_of(get_at_once.using(owner=owner).enqueue(urls, {"retries": 0})))

    call(user, "/status/503")
    [refused] = call(user, "/ok")
    assert refused.startswith("CircuitOpen: ")
    assert call(other_user, "/ok") == {200}
