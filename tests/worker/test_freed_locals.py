"""What a task held is freed when its attempt has ended, not when the garbage collector runs."""

import asyncio
import gc
import logging
import weakref
from datetime import timedelta

import pytest

from notifications.api import pause, policy
from notifications.jobs import cancel
from tests.jobs.conftest import until_done, until_state
from tests.support.django_tasks import task
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("without_collector")

#: Weak references to a local of each attempt.
held = []


class Document:
    """Stands for what a task loads into memory."""


def load():
    document = Document()
    held.append(weakref.ref(document))
    return document


def parse(document):
    raise ValueError(id(document))


@task
async def fail_async():
    document = load()
    await asyncio.sleep(0)
    raise ValueError(id(document))


@task
def fail_sync():
    document = load()
    raise ValueError(id(document))


@task
def fail_with_cause():
    try:
        parse(load())
    except ValueError as exc:
        raise RuntimeError("The document is unreadable.") from exc


@task
async def fail_in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_async.func())


@task
def keep_the_error():
    document, last = load(), None
    try:
        parse(document)
    except ValueError as exc:
        last = exc
    raise last


@task
@policy(retry_on=ValueError, max_attempts=2, backoff=0.001)
def fail_twice():
    fail_sync.func()


@task
@policy(timeout=0.1)
async def take_too_long():
    document = load()
    await asyncio.sleep(30)
    return id(document)


@task
async def wait_for_cancel():
    document = load()
    await asyncio.sleep(30)
    return id(document)


@task
def wait_for_a_time():
    document = load()
    pause("later", timedelta(hours=1))
    return id(document)


@pytest.fixture
def without_collector(monkeypatch):
    # It keeps what it has got, with the frames of exceptions.
    monkeypatch.setattr("_pytest.logging.LogCaptureHandler.emit", lambda *args: None)
    held.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def until_freed(count=1):
    wait_until(lambda: len(held) == count and not any(reference() for reference in held), timeout=5)


@pytest.mark.parametrize("has_receiver", [True, False])
@pytest.mark.parametrize(
    "failing", [fail_async, fail_sync, fail_with_cause, fail_in_a_group, keep_the_error, take_too_long]
)
def test_failed_jobs(worker, failing, has_receiver, monkeypatch):
    """Whether a receiver, as that of Django's log, reads the exception, or none does."""
    if not has_receiver:
        for name in ("django.tasks", "django_tasks"):
            monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL + 1)
    assert until_done(failing.enqueue())[0].state == "failed"
    until_freed()


def test_attempts_that_are_retried(worker):
    assert until_done(fail_twice.enqueue())[0].attempt == 2
    until_freed(2)


def test_cancelled_jobs(worker):
    result = wait_for_cancel.enqueue()
    wait_until(lambda: held)
    cancel([result.id])
    assert until_done(result)[0].state == "cancelled"
    until_freed()


def test_jobs_that_wait(worker):
    until_state(wait_for_a_time.enqueue(), "waiting")
    until_freed()
