"""Outbound calls to the hosts of a rate, against a real server."""

import asyncio
import re
import time

import pytest
from django.db import transaction

from notifications import outbound
from notifications.api import notify
from notifications.contrib.rates import RateExceeded, calls, charge
from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from notifications.models import Job
from notifications.outbound import gates
from notifications.testing import run_jobs
from tests.contrib.rates import rated_tasks
from tests.jobs.conftest import until_done
from tests.outbound.conftest import allow, reset_circuits, upstream  # noqa: F401 (fixtures)
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
#: The statement that takes tokens.
TAKING = r"UPDATE notifications_rates_limit SET\s+busy_until"


@pytest.fixture(autouse=True)
def limited_calls(monkeypatch):
    """Calls of this process count, as outside of tests."""
    monkeypatch.setattr(gates, "enabled_in_tests", True)
    calls._forget()
    yield
    calls._forget()


def call_as_another_process(url, **options):
    """Call with what the row of the limit allows."""
    calls._forget()
    return asyncio.run(outbound.get(url, **options))


@pytest.fixture
def partner(allow, upstream):  # noqa: F811
    """partner("60/m", burst=2) declares a rate of calls to the upstream, and returns its address."""

    def declare(rate, **options):
        declared = {"rate": rate, "hosts": [upstream.address], **options}
        allow(upstream.address, RATES={"partner": declared})
        return f"http://{upstream.address}/"

    return declare


def test_calls_are_spaced(partner, upstream):  # noqa: F811
    url = partner("600/m", burst=1)

    async def call_all():
        started = time.monotonic()
        await asyncio.gather(*[outbound.get(url) for _ in range(8)])
        return time.monotonic() - started

    assert asyncio.run(call_all()) >= 0.7 * 0.9
    assert len(upstream.requests) == 8
    wait_until(lambda: Limit.objects.get().used >= 8, what="all calls to be counted")


def test_a_call_that_would_wait_too_long_is_refused_at_once(partner, upstream):  # noqa: F811
    url = partner("1/m", burst=1)

    async def call_twice():
        await outbound.get(url)
        started = time.monotonic()
        with pytest.raises(RateExceeded, match="limit of calls") as caught:
            await outbound.get(url, deadline=30)
        assert time.monotonic() - started < 15
        assert 50 < caught.value.retry_after <= 64
        assert isinstance(caught.value, outbound.TEMPORARY)

    asyncio.run(call_twice())
    assert len(upstream.requests) == 1


def test_other_hosts_do_not_wait(partner, upstream):  # noqa: F811
    partner("1/m", burst=1)

    async def call():
        for _ in range(3):
            assert (await outbound.get(f"http://localhost:{upstream.port}/", guard=False)).status == 200

    asyncio.run(call())
    assert not Limit.objects.exists()


@pytest.mark.parametrize("slice_size", [1, 10])
def test_most_calls_of_a_fast_rate_make_no_query(partner, slice_size):
    url = partner(f"{slice_size * 100}/m", burst=slice_size * 10)

    async def call_all():
        await asyncio.gather(*[outbound.get(url) for _ in range(slice_size * 4)])

    with preceded(TAKING, lambda: None, times=None) as statements:
        asyncio.run(call_all())
    taken = [int(re.search(r"used = used \+ (\d+)", sql)[1]) for sql in statements]
    assert max(taken) <= slice_size
    assert taken.count(slice_size) <= 4 + 2


def test_what_the_partner_says_closes_the_limit(partner):
    url = partner("600/m", burst=10)

    async def call():
        assert (await outbound.get(f"{url}sequence?statuses=429&retry_after=120", retries=0)).status == 429
        with pytest.raises(RateExceeded) as caught:
            await outbound.get(url, deadline=10)
        assert caught.value.retry_after > 100

    asyncio.run(call())
    limit = wait_until(lambda: Limit.objects.filter(closed_until__gt=0).first(), what="the row to be closed")
    assert limit.corrected_by == "Retry-After: 120"
    with pytest.raises(RateExceeded) as caught:
        call_as_another_process(url, deadline=10)
    assert caught.value.retry_after > 100


@pytest.mark.parametrize("seconds", [86_400, 999_999_999])
def test_a_limit_is_closed_for_an_hour_at_most(partner, seconds):
    """In the process that was told, and in the others."""
    url = partner("600/m", burst=10)

    async def call():
        await outbound.get(f"{url}sequence?statuses=429&retry_after={seconds}", retries=0)
        with pytest.raises(RateExceeded) as caught:
            await outbound.get(url, deadline=10)
        return caught.value.retry_after

    assert 3_500 < asyncio.run(call()) <= 3_600
    wait_until(lambda: Limit.objects.filter(closed_until__gt=0).exists(), what="the row to be closed")
    with pytest.raises(RateExceeded) as caught:
        call_as_another_process(url, deadline=10)
    assert 3_500 < caught.value.retry_after <= 3_600


def test_urls_of_users_neither_use_nor_close_the_limit(partner, upstream):  # noqa: F811
    """They have a limit of their own of the same rate."""
    url = partner("1/m", burst=1)
    closing = f"{url}sequence?statuses=429&retry_after=120"

    async def call():
        assert (await outbound.get(closing, retries=0, is_user_url=True)).status == 429
        with pytest.raises(RateExceeded):
            await outbound.get(url, deadline=10, is_user_url=True)
        assert (await outbound.get(url, deadline=10)).status == 200

    asyncio.run(call())
    assert len(upstream.requests) == 2
    used = wait_until(lambda: len(rows := Limit.objects.in_bulk()) == 2 and rows, what="both limits")
    assert {key: (row.used, row.closed_until) for key, row in used.items()} == {
        "partner": (1, 0),
        "partner:(URLs of users)": (1, 0),
    }


@pytest.mark.with_all_apps("webhooks are another app")
def test_webhooks_use_the_limit_of_urls_of_users(partner, upstream, settings, user):  # noqa: F811
    from notifications.contrib import webhooks

    url = partner("60/m", burst=10)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    webhooks.create(url, owner=user)
    notify(user, "Export ready")
    run_jobs()
    assert upstream.requests
    assert [limit.key for limit in Limit.objects.all()] == ["partner:(URLs of users)"]


def test_a_call_that_is_cancelled_lets_the_next_one_pass(partner):
    url = partner("120/m", burst=1)

    async def call_all():
        await outbound.get(url)
        first, second = [asyncio.create_task(outbound.get(url)) for _ in range(2)]
        await asyncio.sleep(0.1)
        first.cancel()
        assert (await second).status == 200

    asyncio.run(call_all())
    assert not calls._budgets["partner"].waiting


def test_a_call_whose_event_loop_was_closed_keeps_no_other(partner):
    url = partner("1/m", burst=1)

    async def call(deadline):
        return await outbound.get(url, deadline=deadline)

    async def until_refused():
        while not budget.closed_until:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.01)

    assert asyncio.run(call(10)).status == 200
    budget = calls._budgets["partner"]
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(call(100))
    loop.run_until_complete(until_refused())
    assert len(budget.waiting) == 1
    loop.close()  # it waits for ever
    Limit.objects.update(busy_until=0)  # as a minute later
    budget.closed_until = 0.0
    assert asyncio.run(call(10)).status == 200
    waiting._log_destroy_pending = False


def test_charges(partner):
    url = partner("60/m", burst=10)
    assert call_as_another_process(url).status == 200
    charge("partner", 60)
    with pytest.raises(RateExceeded) as caught:
        call_as_another_process(url, deadline=10)
    assert caught.value.retry_after > 50
    charge("partner", -60)
    assert call_as_another_process(url).status == 200
    with pytest.raises(ValueError, match="declares no rate 'other'"):
        charge("other", 1)
    with pytest.raises(TypeError, match="must be an integer"):
        charge("partner", 1.5)


def test_a_charge_counts_after_the_commit_of_its_caller(partner):
    """Inside of it, it would hold the row of the limit until then."""
    partner("60/m", burst=10)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        charge("partner", 5)
        raise ZeroDivisionError
    assert not Limit.objects.exists()
    with transaction.atomic():
        charge("partner", 5)
        assert not Limit.objects.exists()
    charge("partner", 10**9)
    limit = Limit.objects.get()
    ahead = limit.busy_until / 1e6 - database_now().timestamp()
    assert limit.used == 10**9 + 5 and 3_600 < ahead < 3_700


def test_a_job_whose_call_would_wait_long_gives_back_its_slot(partner, start_worker):
    """If no other slot is free. It is tried again when its turn has come, which takes none of its attempts."""
    url = partner("20/m", burst=1)
    rated_tasks.ran.clear()
    start_worker(concurrency=2)
    jobs = [rated_tasks.call.enqueue(url) for _ in range(4)]
    wait_until(lambda: len(rated_tasks.ran) == 1, what="the first call")
    neighbor = rated_tasks.plain.enqueue()
    until_done(neighbor)
    assert rated_tasks.ran == ["call", "plain"]
    wait_until(lambda: len(rated_tasks.ran) == 3, what="a call that was refused")
    rows = [Job.objects.get(id=job.id) for job in jobs]
    assert "failed" not in {row.state for row in rows}
    given_back = [row.max_attempts - row.retries for row in rows if row.retries]
    assert given_back and set(given_back) == {2}


def test_without_a_database(partner, upstream):  # noqa: F811
    """A call waits for it until its deadline, and is not sent without a token."""
    url = partner("60/m")
    with refused(TAKING), pytest.raises(outbound.TimedOut):
        asyncio.run(outbound.get(url, deadline=0.5))
    assert not upstream.requests
