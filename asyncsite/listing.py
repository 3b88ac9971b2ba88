"""The list of reports: each with its state and what came of it so far, in three queries a page."""

from dataclasses import dataclass

from django.db.models import Count

from asyncsite.models import Call, Report
from asyncsite.summary import outcome_words
from notifications.models import Job

STATE_WORDS = {
    Job.State.QUEUED: "Waiting",
    Job.State.RUNNING: "Running",
    Job.State.SUCCEEDED: "Done",
    Job.State.FAILED: "Stopped",
    Job.State.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    report: Report
    state: str
    word: str
    outcomes: str


def listed(reports):
    """A Listed for each of some reports."""
    reports = list(reports)
    jobs = Job.objects.in_bulk([report.job_id for report in reports if report.job_id])
    counts = outcome_counts(reports)
    return [describe(report, jobs.get(report.job_id), counts[report.pk]) for report in reports]


def outcome_counts(reports):
    counts = {report.pk: dict.fromkeys(Call.Outcome.values, 0) for report in reports}
    rows = Call.objects.filter(report__in=counts).order_by().values_list("report", "outcome")
    for report, outcome, count in rows.annotate(count=Count("pk")):
        counts[report][outcome] = count
    return counts


def describe(report, job, counts):
    # A job that is no longer kept was done long ago.
    state = job.state if job else Job.State.SUCCEEDED
    called = sum(counts.values())
    running = state == Job.State.RUNNING
    return Listed(
        report=report,
        state=state,
        word=STATE_WORDS[state],
        outcomes=f"{called:,} of {report.size:,} called" if running else outcome_words(**counts),
    )
