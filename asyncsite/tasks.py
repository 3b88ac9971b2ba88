"""The background task that calls all URLs of a report."""

import asyncio
from collections import defaultdict
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.db.models import Count

from asyncsite.calling import call
from asyncsite.limits import refuse_too_many_reports
from asyncsite.models import Call, Report
from asyncsite.pruning import prune_reports
from asyncsite.summary import outcome_words
from notifications.api import DATABASE_UNAVAILABLE, policy, progress, task
from notifications.exceptions import JobError

AT_ONCE = 50
A_HOST = 10
RECORD_EVERY = 0.25  # seconds; calls that a killed worker has not recorded are made again
ROWS = 100  # of one transaction, because SQLite has one writer and others wait for it
MAX_PRUNED_REPORTS = 20  # by one report's job


def tell(done):
    """Return the fields of a finished report's notification; the defaults for a failed one."""
    if done.error:
        return {}
    wanting = done.result["failed"] or done.result["refused"]
    return {"body": f"{outcome_words(**done.result)}.", "level": "warning" if wanting else "success"}


# An hour is enough for 1,000 URLs of one server that all take the longest a call may take. What goes wrong with a URL
# is a row of the report; what may go wrong besides is the database, which comes back.
@task
@policy(
    title="Check report {report_id}",
    timeout=3600,
    max_attempts=10,
    retry_on=DATABASE_UNAVAILABLE,
    notify=tell,
)
async def check_urls(report_id):
    """Call what is not recorded yet, at most AT_ONCE URLs at a time and A_HOST a server; return the counts of outcomes.

    Idempotent: URLs that an earlier attempt recorded are not called again. Reports of all users that are past their
    retention are deleted first.
    """
    await sync_to_async(prune_reports)(limit=MAX_PRUNED_REPORTS)
    todo, total = await sync_to_async(unrecorded)(report_id)
    progress(total - len(todo), total, "")
    pending = start_calls(todo)
    try:
        while pending:
            finished, pending = await asyncio.wait(pending, timeout=RECORD_EVERY)
            await record(report_id, [call.result() for call in finished])
            if finished:
                counts = await sync_to_async(outcome_counts)(report_id)
                progress(sum(counts.values()), total, outcome_words(**counts))
    finally:
        for unfinished in pending:
            unfinished.cancel()
    return await sync_to_async(outcome_counts)(report_id)


def ask_report(user, urls, title=""):
    """Create a report and enqueue its job, in the caller's transaction; return the result of ``enqueue``.

    Raises TooManyReports if the user has as many as are stored for one user.
    """
    refuse_too_many_reports(user)
    title = title or f"Check {len(urls):,} {'URL' if len(urls) == 1 else 'URLs'}"
    report = Report.objects.create(owner=user, title=title, urls=urls, size=len(urls))
    result = check_urls.using(owner=user, title=title, url=report.get_absolute_url()).enqueue(report.pk)
    report.job_id = result.id
    report.save(update_fields=["job_id"])
    return result


def unrecorded(report_id):
    """Return the (position, URL) pairs without a row, and the number of all URLs."""
    urls = Report.objects.values_list("urls", flat=True).filter(pk=report_id).first()
    if urls is None:
        raise JobError("The report was deleted.")
    recorded = set(Call.objects.filter(report=report_id).values_list("position", flat=True))
    numbered = enumerate(urls, start=1)
    return [(position, url) for position, url in numbered if position not in recorded], len(urls)


def start_calls(todo):
    """Start one asyncio task for each (position, URL) pair and return them.

    A call first waits for its server, then for one of the AT_ONCE places of the report. So a slow server takes at most
    A_HOST places, and no call waits inside the outbound client, where its deadline would be running.
    """
    places, servers = asyncio.Semaphore(AT_ONCE), defaultdict(lambda: asyncio.Semaphore(A_HOST))

    async def one(position, url):
        async with servers[urlsplit(url).hostname], places:
            return position, url, await call(url)

    return {asyncio.create_task(one(position, url)) for position, url in todo}


async def record(report_id, answers):
    for start in range(0, len(answers), ROWS):
        await sync_to_async(record_rows)(report_id, answers[start : start + ROWS])


def record_rows(report_id, answers):
    """Insert the rows in one transaction. A position that another worker has recorded meanwhile keeps its row."""
    rows = [
        Call(report_id=report_id, position=position, url=url, **vars(answer))
        for position, url, answer in answers
    ]
    Call.objects.bulk_create(rows, ignore_conflicts=True)


def outcome_counts(report_id):
    counted = Call.objects.filter(report=report_id).order_by().values_list("outcome").annotate(Count("pk"))
    return dict.fromkeys(Call.Outcome.values, 0) | dict(counted)
