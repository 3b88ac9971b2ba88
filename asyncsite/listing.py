"""The rows of the report list: each with its state and its outcomes so far, in three queries per page."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count
from django.utils.translation import gettext as _

from asyncsite.jobs import find_jobs
from asyncsite.models import Call, Report
from asyncsite.numbers import format_number
from asyncsite.summary import describe_outcomes


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """``progress`` is "3 of 40" while the report runs, otherwise empty. ``job_id`` is None if the job is not stored."""

    report: Report
    job_id: UUID | None
    state: str
    state_label: str
    progress: str
    outcomes: str


def build_rows(reports):
    """Return a ReportRow for each report."""
    reports = list(reports)
    jobs = find_jobs(reports)
    counts = count_outcomes(reports)
    return [build_row(report, jobs.get(report.job_id), counts[report.pk]) for report in reports]


def count_outcomes(reports):
    """Return the number of calls of each outcome, by report id."""
    counts = {report.pk: dict.fromkeys(Call.Outcome.values, 0) for report in reports}
    rows = Call.objects.filter(report__in=counts).order_by().values_list("report", "outcome")
    for report, outcome, count in rows.annotate(count=Count("pk")):
        counts[report][outcome] = count
    return counts


def build_row(report, job, counts):
    called = sum(counts.values())
    return ReportRow(
        report=report,
        job_id=job and job.id,
        state=job.state if job else "succeeded",  # A job that is no longer stored was done.
        state_label=job.state_label if job else _("Succeeded"),
        progress=describe_progress(called, report.size) if job and job.state == "running" else "",
        outcomes=describe_outcomes(**counts),
    )


def describe_progress(current, total):
    return _("{current} of {total}").format(current=format_number(current), total=format_number(total))
