"""What the page of a report shows, while its job runs and afterwards, and the ETag of that."""

import hashlib

from django.utils.translation import get_language

from asyncsite.call_list import build_call_list
from asyncsite.chart import build_chart
from asyncsite.jobs import is_asked
from asyncsite.models import Call
from asyncsite.summary import compute_totals, describe_passed


def read_outcomes(report):
    """Return the calls of a report, in no order, with what its totals and its chart are made of."""
    calls = Call.objects.filter(report=report).order_by()
    return list(calls.values_list("outcome", "status", "elapsed_ms", named=True))


def build_context(report, job, query):
    """Return the context of the templates ``report.html`` and ``report_content.html``.

    ``job`` is the JobInfo of the report, None if it is no longer stored. ``query`` is ``request.GET``.
    """
    calls = read_outcomes(report)
    totals = compute_totals(calls)
    is_active = job is not None and not job.is_done
    return {
        "report": report,
        "job": job,
        "has_job": job is not None,
        "has_output": job is not None,
        "is_active": is_active,
        "is_asked": is_asked(report),
        "state": job.state if job else "succeeded",
        "state_label": job.state_label if job else "",
        "totals": totals,
        "passed": describe_passed(totals.ok, report.size),
        "chart": None if is_active else build_chart(calls),
        "missing": report.size - totals.calls,
        "calls": build_call_list(report, query, totals, is_active=is_active),
    }


def compute_etag(report, job, query):
    """Return the ETag of the content: it changes with the job, the calls, the query and the language. One query.

    A call is inserted once and never changed, and deleted only for another job, so their number is enough.
    """
    recorded = Call.objects.filter(report=report).count()
    shown = (report.public_token, report.publication_id)
    values = (
        (report.pk, report.job_id),
        shown,
        job and (job.version, job.state_label),
        recorded,
        query.urlencode(),
        get_language(),
    )
    return f'"{hashlib.sha256(repr(values).encode()).hexdigest()[:32]}"'
