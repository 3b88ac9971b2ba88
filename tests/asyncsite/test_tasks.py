"""The job of a report: each URL is called once and recorded soon, and the owner is notified once."""

import asyncio
import json
from collections import Counter

import pytest

from asyncsite import tasks
from asyncsite.calls import CallResult
from asyncsite.findings import describe_findings
from asyncsite.models import Call, Report
from asyncsite.tasks import check_urls, enqueue_report
from notifications.contrib.output.testing import output
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.outbound.upstream import Upstream

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture
def run(user):
    """Return a function that enqueues a report, runs its job, and returns the report."""

    def run(*urls):
        enqueue_report(user, list(urls))
        run_jobs()
        return Report.objects.latest("pk")

    return run


@pytest.fixture
def canary():
    """A server that must not be called."""
    upstream = Upstream()
    yield upstream
    upstream.close()
    assert not upstream.connections


def outcomes(report):
    return [(call.outcome, call.status, call.error) for call in report.calls.order_by("position")]


def test_findings_are_written(run, upstream):
    """While the report runs: what failed, with the reason, between its first and its last line."""
    report = run(upstream.url("/echo"), upstream.url("/status/404"), "http://nowhere.invalid/")
    first, *findings, last = output(report.job_id).splitlines()
    assert (first, last) == ("Checking 3 URLs.", "Done: 1 passed, 2 failed.")
    assert dict(zip(findings[::2], findings[1::2], strict=True)) == {
        upstream.url("/status/404"): f"    {upstream.address} answered with status 404 (Not Found).",
        "http://nowhere.invalid/": "    nowhere.invalid could not be found.",
    }


def test_slow_calls_are_findings():
    slow = CallResult(outcome="ok", status=200, elapsed_ms=2_340)
    assert describe_findings([(1, "https://a.example/", slow)]) == "https://a.example/\n    It took 2.3 s.\n"
    fast = CallResult(outcome="ok", status=200, elapsed_ms=1_999)
    assert describe_findings([(1, "https://a.example/", fast)]) == ""


def test_each_url_is_recorded(run, upstream):
    """A redirect has the outcome of its target."""
    report = run(
        upstream.url("/echo"),
        upstream.url("/status/404"),
        upstream.url("/redirect?to=/ok"),
        upstream.url("/redirect?to=/redirect"),
        "http://nowhere.invalid/",
    )
    host = upstream.address
    assert outcomes(report) == [
        ("ok", 200, ""),
        ("failed", 404, f"{host} answered with status 404 (Not Found)."),
        ("ok", 200, ""),
        ("failed", 500, f"{host} answered with status 500 (Internal Server Error)."),
        ("failed", None, "nowhere.invalid could not be found."),
    ]
    first = report.calls.get(position=1)
    assert (first.url, first.content_type) == (upstream.url("/echo"), "application/json; charset=utf-8")
    assert first.bytes > 2 and 0 <= first.elapsed_ms < 5000
    last = report.calls.get(position=5)
    assert (last.elapsed_ms, last.bytes, last.content_type) == (None, None, "")


def test_internal_addresses_are_refused_and_not_called(run, upstream, canary):
    """As a literal, as a mapped address, by name, and as the target of an allowed upstream's redirect."""
    urls = [
        f"http://127.0.0.1:{canary.port}/ok",
        f"http://[::ffff:127.0.0.1]:{canary.port}/ok",
        f"http://localhost:{canary.port}/ok",
        upstream.url(f"/redirect?to=http://127.0.0.1:{canary.port}/ok"),
        "http://169.254.169.254/",
    ]
    report = run(*urls)
    assert [outcome for outcome, _, _ in outcomes(report)] == ["refused"] * 5
    assert all(error for _, _, error in outcomes(report))


def test_the_owner_is_notified_once_with_the_counts(run, user, upstream):
    report = run(upstream.url("/ok"), upstream.url("/status/500"))
    notification = Notification.objects.get()
    assert (notification.user_id, notification.url, notification.title) == (
        user.pk,
        report.get_absolute_url(),
        "Check 2 URLs finished",
    )
    first = f"{upstream.address}/status/500: 500"
    assert (notification.body, notification.level) == (f"1 failed: {first}. 1 of 2 passed", "warning")
    assert (notification.job, notification.group_key) == (report.job_id, "n:Check 2 URLs")
    job = Job.objects.get()
    assert (job.state, json.loads(job.result)) == (
        "succeeded",
        {"ok": 1, "failed": 1, "refused": 0, "first": first},
    )
    assert (job.progress_current, job.progress_total, job.progress_message) == (2, 2, "1 passed, 1 failed")


def test_a_report_without_problems_notifies_a_success(run, upstream):
    run(upstream.url("/ok"))
    assert (Notification.objects.get().body, Notification.objects.get().level) == ("1 of 1 passed", "success")


def test_a_failed_report_is_in_the_group_of_its_title(user):
    enqueue_report(user, ["https://api.example.com/"], title="Partners")
    Report.objects.all().delete()
    run_jobs()
    assert Notification.objects.get().group_key == "n:Partners"


def test_the_same_url_twice_is_called_twice(run, upstream):
    report = run(upstream.url("/ok"), upstream.url("/ok"))
    assert report.calls.count() == len(upstream.requests) == 2


def test_a_second_attempt_calls_only_unrecorded_urls(user, upstream):
    """The rows of the first attempt are unchanged."""
    urls = [upstream.url(f"/ok?n={number}") for number in range(1, 6)]
    enqueue_report(user, urls)
    report = Report.objects.get()
    Call.objects.create(report=report, position=2, url=urls[1], outcome="failed", error="first attempt")
    Call.objects.create(report=report, position=4, url=urls[3], outcome="ok", status=200, elapsed_ms=1)
    run_jobs()
    assert Counter(request.path for request in upstream.requests) == {
        "/ok?n=1": 1,
        "/ok?n=3": 1,
        "/ok?n=5": 1,
    }
    assert list(report.calls.order_by("position").values_list("position", flat=True)) == [1, 2, 3, 4, 5]
    assert report.calls.get(position=2).error == "first attempt"
    body = Notification.objects.get().body
    assert body.startswith("1 failed: ") and body.endswith(". 4 of 5 passed")


def test_a_second_insert_of_a_position_is_ignored(user):
    """A worker that was frozen may insert late."""
    report = Report.objects.create(owner=user, title="t", urls=["https://a/"], size=1)
    tasks.insert_calls(report.pk, [(1, "https://a/", CallResult(outcome="ok", status=200))])
    tasks.insert_calls(report.pk, [(1, "https://a/", CallResult(outcome="failed", error="late"))])
    assert outcomes(report) == [("ok", 200, "")]


async def test_results_are_recorded_while_other_calls_run(event_loop_database, user, upstream):
    """A cancelled attempt keeps its rows and makes no further calls."""
    urls = [upstream.url("/ok"), *[upstream.url("/slow/2")] * 20]
    report = await Report.objects.acreate(owner=user, title="t", urls=urls, size=len(urls))
    attempt = asyncio.create_task(check_urls.func(report.pk))
    await wait_until_true(Call.objects.filter(report=report, position=1, outcome="ok").aexists)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await wait_until_true(is_only_task)
    assert len(upstream.requests) <= 11
    assert await Call.objects.acount() == 1


def test_rows_are_written_in_batches(user, monkeypatch, django_assert_max_num_queries):
    """SQLite has one writer: a transaction for each call would delay the others."""

    async def call(url):
        return CallResult(outcome="ok", status=200, elapsed_ms=1)

    monkeypatch.setattr(tasks, "call_url", call)
    enqueue_report(user, [f"https://api{number}.example/" for number in range(1000)])
    with django_assert_max_num_queries(100):
        run_jobs()
    assert Call.objects.count() == 1000


def test_at_most_ten_concurrent_calls_to_one_host(run, upstream):
    run(*[upstream.url("/slow/0.1")] * 30)
    assert upstream.max_active == 10


def test_a_slow_host_does_not_delay_others(user, monkeypatch):
    """50 concurrent calls, of which one host has ten: the others are done before it."""
    active = max_active = 0
    finished = []
    are_others_done = asyncio.Event()

    async def call(url):
        nonlocal active, max_active
        active, max_active = active + 1, max(max_active, active + 1)
        if "slow" in url:  # however busy this machine is
            async with asyncio.timeout(30):
                await are_others_done.wait()
        else:
            await asyncio.sleep(0.01)
        active -= 1
        finished.append(url)
        if len(finished) == len(quick):
            are_others_done.set()
        return CallResult(outcome="ok", status=200, elapsed_ms=1)

    monkeypatch.setattr(tasks, "call_url", call)
    quick = [f"https://quick{number}.example/" for number in range(100)]
    enqueue_report(user, [f"https://slow.example/{number}" for number in range(30)] + quick)
    run_jobs()
    assert set(finished[:100]) == set(quick)
    assert max_active == 50


async def wait_until_true(condition):
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - rows and tasks emit no event
            await asyncio.sleep(0.02)


async def is_only_task():
    return asyncio.all_tasks() == {asyncio.current_task()}
