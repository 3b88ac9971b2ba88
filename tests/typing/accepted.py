"""Code that type checkers must accept. It is checked by ``make types`` and never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from notifications.api import (
    DATABASE_UNAVAILABLE,
    Batch,
    FinishedJob,
    JobInfo,
    aaccepted,
    abatch,
    accepted,
    aget_job,
    ajoin,
    anotify,
    batch,
    get_job,
    get_jobs,
    jobs_of,
    join,
    notify,
    policy,
    progress,
    release_connections,
    requester,
    task,
    track,
)
from notifications.exceptions import JobFailed
from notifications.testing import capture_notifications, run_jobs


def describe(job: FinishedJob) -> Mapping[str, Any] | None:
    return {"title": f"{job.title} ended", "body": job.state} if job.error else None


@task
@policy(
    title="Export {year}",
    max_attempts=5,
    backoff=30,
    timeout=60,
    retry_on=(TimeoutError, *DATABASE_UNAVAILABLE),
    concurrency_key="export:{owner}",
    concurrency=2,
    notify=describe,
)
def export(year: int) -> dict[str, int]:
    for month in track(range(1, 13), message="Months"):
        progress(month, 12)
    return {"rows": 12_400}


@task
async def check(url: str, *, retries: int = 3) -> str:
    return url * retries


@task(priority=10, queue_name="mail")
async def send(address: str) -> bool:
    return bool(address)


@task(takes_context=True)
def count(context: Any, items: list[int]) -> int:
    return sum(items) + int(context.attempt)


def export_view(request: HttpRequest, year: int) -> HttpResponse:
    return accepted(request, lambda: export.using(url=f"/exports/{year}/").enqueue(year))


async def check_view(request: HttpRequest) -> HttpResponse:
    await release_connections()
    return await aaccepted(request, lambda: check.enqueue("https://example.org/"))


def enqueue_and_wait(user: User) -> None:
    enqueued = export.using(owner=user, title="Mine", key="export-2026", priority=5).enqueue(2026)
    assert_type(join(enqueued), dict[str, int])
    assert_type(join(check.using(run_after=datetime.now(UTC)).enqueue("/", retries=1), timeout=5), str)
    assert_type(join(send.enqueue("a@example.org")), bool)
    assert_type(join(count.enqueue([1, 2])), int)
    assert_type(join(UUID(int=1)), Any)
    with requester(user.pk):
        identifier: str = check.enqueue("/").id
    assert_type(get_job(identifier), JobInfo)
    assert_type(get_jobs([identifier]), dict[UUID, JobInfo])
    titles: list[str] = [job.title for job in jobs_of(user, limit=10) if job.is_done]
    notify(user, titles[0], level="success", data={"count": len(titles)})


async def enqueue_and_await(user: User) -> None:
    assert_type(await ajoin(await check.aenqueue("/")), str)
    assert_type(await anotify([user, user.pk], "Hello", body="World"), list[UUID])
    async with abatch(owner=user, title="Checks", notify=False) as checks:
        await check.aenqueue("/")
    assert_type(checks, Batch)
    assert (await aget_job(checks.id)).state == "running"
    assert (await ajoin(checks))["failed"] == 0


def enqueue_batch() -> int:
    with batch() as checks:
        check.enqueue("/")
    try:
        return join(checks)["succeeded"]
    except JobFailed as exc:
        raise ValueError(exc.error["detail"]) from exc


def run_in_test(user: User) -> None:
    with capture_notifications(user) as notifications:
        executed: int = run_jobs()
    assert executed == len(notifications)
