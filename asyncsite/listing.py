"""The rows of the report list: each with its state and its outcomes so far, in three queries per page."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count
from django.utils.translation import gettext as _

from asyncsite.jobs import find_jobs
from asyncsite.models import Call, Report
from asyncsite.numbers import format_number
from asyncsite.summary import describe_outcomes, describe_passed


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """``label`` is what came of the report, or its state and progress while its job ``job_id`` is active.

    ``detail`` is what did not pass.
    """

    report: Report
    job_id: UUID | None
    state: str
    label: str
    detail: str
    ok: int
    failed: int
    refused: int


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
    failed, refused = counts["failed"], counts["refused"]
    state = job.state if job else "succeeded"  # A job that is no longer stored was done.
    if state == "succeeded":
        label = describe_passed(counts["ok"], report.size)
    else:
        label = f"{job.state_label} · {describe_progress(sum(counts.values()), report.size)}"
    return ReportRow(
        report=report,
        job_id=job.id if job and not job.is_done else None,
        state=state,
        label=label,
        detail=describe_outcomes(failed=failed, refused=refused),
        ok=counts["ok"],
        failed=failed,
        refused=refused,
    )


def describe_progress(current, total):
    return _("{current} of {total}").format(current=format_number(current), total=format_number(total))
