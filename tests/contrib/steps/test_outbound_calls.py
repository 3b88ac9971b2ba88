"""Outbound calls in steps: another attempt at a step sends the same keys."""

import pytest

from notifications import outbound
from notifications.api import policy, task
from notifications.contrib.steps import astep
from notifications.testing import run_until_idle
from tests.contrib.steps.step_tasks import Down
from tests.outbound.conftest import allow, upstream  # noqa: F401 (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)

tried = []


async def post(name, url):
    body = len(tried)
    await outbound.post(url, json=body)
    await outbound.post(url, json=body)
    await outbound.post(url, json=body, idempotency_key=True)
    await outbound.get(url)
    tried.append(name)
    if len(tried) == 1:
        raise Down


@task
@policy(max_attempts=2, retry_on=(Down,), backoff=0)
async def call_in_steps(url):
    await astep("charge", post, "charge", url)
    await astep("refund", post, "refund", url)
    await outbound.post(url)


async def post_with_own_key(url, refusing):
    await outbound.post(url, headers={"Idempotency-Key": "own"})
    return (await outbound.post(refusing)).status


@task
async def call_with_own_key(url, refusing):
    return await astep("own", post_with_own_key, url, refusing)


def keys_of(upstream):  # noqa: F811
    return [received.headers.get("Idempotency-Key") for received in upstream.requests]


def test_keys(upstream):  # noqa: F811
    """Whatever the body. Those of another step differ, and outside of steps there are none."""
    tried.clear()
    call_in_steps.enqueue(upstream.url("/ok"))
    run_until_idle(raise_errors=True)
    keys = keys_of(upstream)
    first, again, other = keys[:4], keys[4:8], keys[8:12]
    assert first == again and first[3] is None and keys[12:] == [None]
    assert len({*first[:3], *other[:3]}) == 6


def test_own_keys(upstream):  # noqa: F811
    """A key that the step has not been given is no reason to send a request again."""
    call_with_own_key.enqueue(upstream.url("/ok"), upstream.url("/sequence?statuses=503"))
    run_until_idle(raise_errors=True)
    own, generated = keys_of(upstream)
    assert own == "own" != generated
