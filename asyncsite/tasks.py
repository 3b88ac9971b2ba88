"""The task that calls all URLs of a report."""

import asyncio
from collections import defaultdict
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.db.models import Count
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from asyncsite.calls import call_url
from asyncsite.findings import describe_end, describe_findings, describe_start
from asyncsite.limits import check_report_limit
from asyncsite.models import Call, Report
from asyncsite.numbers import format_number
from asyncsite.pruning import prune_reports
from asyncsite.summary import describe_call, describe_outcomes, describe_passed, describe_problems
from notifications.api import DATABASE_UNAVAILABLE, policy, progress, task
from notifications.contrib.output import output
from notifications.exceptions import JobError

MAX_CONCURRENT_CALLS = 50
MAX_CALLS_PER_HOST = 10
#: A worker that is killed repeats the calls of at most this time.
RECORD_INTERVAL_SECONDS = 0.25
#: SQLite has one writer: a longer transaction would delay all others.
MAX_ROWS_PER_TRANSACTION = 100
MAX_PRUNED_REPORTS_PER_JOB = 20
#: The title of the notification of a report.
FINISHED = _("{title} finished")
#: Of a notification.
MAX_TITLE_LENGTH = 200
MAX_GROUP_LENGTH = 100


def build_notification(job):
    """Return the fields of the notification of a finished report. A failed one has the defaults, and its group.

    Reports of the same title are one row of the inbox. Each other one is a row of its own, with what came of it.
    """
    group = job.title[:MAX_GROUP_LENGTH]
    if job.error:
        return {"group": group}
    finished = str(FINISHED)
    room = MAX_TITLE_LENGTH - len(finished.format(title=""))
    ok, failed, refused = (job.result[outcome] for outcome in Call.Outcome.values)
    problems = describe_problems(failed, refused, job.result["first"])
    passed = describe_passed(ok, ok + failed + refused)
    return {
        "title": finished.format(title=job.title[:room]),
        "body": f"{problems}. {passed}" if problems else passed,
        "level": "warning" if problems else "success",
        "group": group,
    }


# One hour is enough for 1,000 URLs of one host that all take the maximum time. Errors of URLs are recorded in the
# report; only the database can make the job fail, and it is retried.
@task
@policy(
    title=_("URL checks"),
    timeout=3600,
    max_attempts=10,
    retry_on=DATABASE_UNAVAILABLE,
    notify=build_notification,
)
async def check_urls(report_id):
    """Call the URLs of a report, and return the number of calls of each outcome. Findings are written as they come.

    ``first`` of the result names the first call that failed or was refused. A retry calls only the URLs that an earlier
    attempt has not recorded. First, old reports of all users are deleted.
    """
    await sync_to_async(prune_reports)(limit=MAX_PRUNED_REPORTS_PER_JOB)
    missing, total = await sync_to_async(find_unrecorded_urls)(report_id)
    progress(total - len(missing), total, "")
    output(describe_start(len(missing)))
    pending = start_calls(missing)
    try:
        while pending:
            finished, pending = await asyncio.wait(pending, timeout=RECORD_INTERVAL_SECONDS)
            results = [call.result() for call in finished]
            await record(report_id, results)
            output(describe_findings(results))
            if finished:
                counts = await sync_to_async(count_outcomes)(report_id)
                progress(sum(counts.values()), total, describe_outcomes(**counts))
    finally:
        for call in pending:
            call.cancel()
    counts = await sync_to_async(count_outcomes)(report_id)
    output(describe_end(counts))
    first = await Call.objects.filter(report=report_id).exclude(outcome="ok").order_by("pk").afirst()
    return {**counts, "first": describe_call(first) if first else ""}


@task
@policy(title=_("Delete old reports"), timeout=3600, retry_on=DATABASE_UNAVAILABLE)
def delete_old_reports():
    """Delete the reports of all users that are past their retention, and return their number."""
    return prune_reports()


def enqueue_report(user, urls, title=""):
    """Create a report and enqueue its job in the caller's transaction. Return what ``enqueue`` returned.

    Raises TooManyReports if the user has as many reports as allowed.
    """
    check_report_limit(user)
    title = title or make_title(len(urls))
    report = Report.objects.create(owner=user, title=title, urls=urls, size=len(urls))
    result = check_urls.using(owner=user, title=title, url=report.get_absolute_url()).enqueue(report.pk)
    report.job_id = result.id
    report.save(update_fields=["job_id"])
    return result


class NothingToTryAgain(Exception):
    """No call of the report has failed, or another request has had these called again."""


def enqueue_failed_calls(report, position=None):
    """Have failed URLs of a report called again, by a job of the caller's transaction.

    Without a position these are all that failed. Their calls are deleted. Returns what ``enqueue`` returned. Raises
    NothingToTryAgain, after which the transaction must be rolled back.
    """
    failed = Call.objects.filter(report=report.pk, outcome=Call.Outcome.FAILED)
    if position is not None:
        failed = failed.filter(position=position)
    deleted, _ = failed.delete()
    url = report.get_absolute_url()
    result = check_urls.using(owner=report.owner_id, title=report.title, url=url).enqueue(report.pk)
    # Of two requests at the same moment one finds the job of the other.
    unchanged = Report.objects.filter(pk=report.pk, job_id=report.job_id)
    if not deleted or not unchanged.update(job_id=result.id):
        raise NothingToTryAgain
    return result


def make_title(count):
    """Return the title of a report without one, in the active language: "Check 40 URLs"."""
    return ngettext("Check {count} URL", "Check {count} URLs", count).format(count=format_number(count))


def find_unrecorded_urls(report_id):
    """Return the (position, URL) pairs that have no Call, and the number of all URLs."""
    urls = Report.objects.values_list("urls", flat=True).filter(pk=report_id).first()
    if urls is None:
        raise JobError(gettext("The report was deleted."))
    recorded = set(Call.objects.filter(report=report_id).values_list("position", flat=True))
    numbered = enumerate(urls, start=1)
    return [(position, url) for position, url in numbered if position not in recorded], len(urls)


def start_calls(numbered_urls):
    """Start an asyncio task for each (position, URL) pair and return them.

    A call waits for its host first and then for one of the report's slots. So a slow host occupies at most
    MAX_CALLS_PER_HOST slots, and no call waits in the outbound client, where its deadline would already run.
    """
    slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
    hosts = defaultdict(lambda: asyncio.Semaphore(MAX_CALLS_PER_HOST))

    async def call(position, url):
        async with hosts[urlsplit(url).hostname], slots:
            return position, url, await call_url(url)

    return {asyncio.create_task(call(position, url)) for position, url in numbered_urls}


async def record(report_id, results):
    for start in range(0, len(results), MAX_ROWS_PER_TRANSACTION):
        await sync_to_async(insert_calls)(report_id, results[start : start + MAX_ROWS_PER_TRANSACTION])


def insert_calls(report_id, results):
    """Insert Call rows in one transaction. A position that another worker has recorded keeps its row."""
    rows = [
        Call(report_id=report_id, position=position, url=url, **vars(result))
        for position, url, result in results
    ]
    Call.objects.bulk_create(rows, ignore_conflicts=True)


def count_outcomes(report_id):
    counts = Call.objects.filter(report=report_id).order_by().values_list("outcome").annotate(Count("pk"))
    return dict.fromkeys(Call.Outcome.values, 0) | dict(counts)
