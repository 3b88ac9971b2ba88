"""SIGKILL of the worker in the middle of a report: the next worker calls the missing URLs."""

import asyncio
from collections import Counter

import pytest
from aiohttp import web

from tests.outbound.upstream import Upstream
from tests.support.waiting import wait_until

ENQUEUE = """
from django.contrib.auth import get_user_model
from django.db import transaction
from asyncsite.tasks import enqueue_report
with transaction.atomic():
    enqueue_report(get_user_model().objects.get(username="demo"), {urls!r})
"""


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


def test_recorded_urls_are_not_called_again_after_a_kill(site, upstream):
    """The report is complete, its owner is notified once, and the job is at its second attempt."""
    release = asyncio.Event()

    async def held(request):
        await release.wait()
        return web.Response()

    upstream.held = held
    quick = [upstream.url(f"/ok?n={number}") for number in range(20)]
    slow = [upstream.url(f"/held?n={number}") for number in range(5)]
    site.notifications = {"OUTBOUND_ALLOW": [upstream.address]}
    site.python(ENQUEUE.format(urls=[*quick, *slow]))

    worker = site.start_worker()
    wait_until(lambda: count_recorded(site) == 20, what="the quick calls to be recorded")
    wait_until(lambda: upstream.active == 5, what="the slow calls to have begun")
    worker.kill()
    upstream.loop.call_soon_threadsafe(release.set)
    assert read_jobs(site) == [("running", 1)]

    site.start_worker()
    wait_until(lambda: read_jobs(site) == [("succeeded", 2)], what="the second attempt")
    assert count_recorded(site) == 25
    calls = Counter(request.path for request in upstream.requests)
    assert all(calls[f"/ok?n={number}"] == 1 for number in range(20))
    assert all(calls[f"/held?n={number}"] == 2 for number in range(5))
    assert site.rows("SELECT title, body, url FROM notifications_notification") == [
        ("Check 25 URLs finished", "25 of 25 passed", "/reports/1/")
    ]


def count_recorded(site):
    return site.rows("SELECT COUNT(*) FROM asyncsite_call")[0][0]


def read_jobs(site):
    return site.rows("SELECT state, attempt FROM notifications_job")
