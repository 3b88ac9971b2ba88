"""Help for tests of projects that use the app."""

from __future__ import annotations

from notifications.ids import uuid7


def run_jobs(limit: int = 1_000) -> int:
    """Run what is queued and due now, and what that enqueues, one after the other, and return how many jobs ran.

    Inline, on the caller's connection and inside its transaction, rings and numbering included: it works in a
    ``TestCase``. Raises RuntimeError after ``limit`` jobs.
    """
    from asgiref.sync import async_to_sync

    from notifications import streams
    from notifications.jobs import recording, states

    worker = uuid7()
    count = 0
    while jobs := states.claim(worker, 1):
        if count == limit:
            states.release(jobs)
            raise RuntimeError(
                f"{limit} jobs have run and there are more. Do they enqueue one another for ever?"
            )
        async_to_sync(_run)(jobs[0])
        count += 1
    recording.settle_left()  # batches without jobs
    streams.leftovers()  # what notify() put off to a commit, which in a TestCase does not come
    return count


async def _run(job) -> None:
    import asyncio

    from asgiref.sync import sync_to_async

    from notifications.jobs.recording import record
    from notifications.jobs.running import Running, started

    await sync_to_async(started)([job])
    run = Running(job, lambda run: None)
    outcome = await asyncio.create_task(run.run(None, None))
    await sync_to_async(record)([outcome])
