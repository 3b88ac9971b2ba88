"""Publish a report: its owner confirms it first, on any device. Anyone with the link can then read its totals."""

import secrets
from datetime import timedelta

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from asyncsite.access import get_own_report, require_sign_in
from asyncsite.chart import build_chart
from asyncsite.jobs import has_active_job, is_asked
from asyncsite.limits import count_request
from asyncsite.models import Report
from asyncsite.report_page import read_outcomes
from asyncsite.summary import compute_totals, describe_outcomes, describe_passed
from notifications.api import DATABASE_UNAVAILABLE, accepted, policy, task
from notifications.contrib.questions import question
from notifications.contrib.steps import step
from notifications.exceptions import JobError

#: Without an answer within this time the report stays private. After half a day the owner is asked once more.
ANSWER_TIME, REMINDER = timedelta(days=3), timedelta(hours=12)


def build_notification(job):
    """Return the fields of the notification of a published report, None if it stays private."""
    if job.error:
        return {}
    if not job.result:
        return None
    return {"title": gettext("{title} is public").format(title=job.title[:150]), "url": job.result}


@task
@policy(
    title=_("Publish report {report_id}"),
    timeout=60,
    max_attempts=10,
    retry_on=DATABASE_UNAVAILABLE,
    notify=build_notification,
)
def publish(report_id):
    """Ask whether a report is to be public. Return the path of its public page, None if it stays private."""
    report = Report.objects.only("title").filter(pk=report_id).first()
    if report is None:
        raise JobError(gettext("The report was deleted."))
    answer = question(
        gettext("Publish “{title}”?").format(title=report.title[:150]),
        name="ask",
        choices={"yes": gettext("Publish"), "no": gettext("Keep private")},
        body=gettext("Anyone with the link can then read its totals, without signing in."),
        url=report.get_absolute_url(),
        expires=ANSWER_TIME,
        default="no",
        remind=[REMINDER],
    )
    return step("publish", make_public, report_id) if answer == "yes" else None


def make_public(report_id):
    """Give a report a public page, unless it has one, and return its path, None if the report was deleted."""
    Report.objects.filter(pk=report_id, public_token=None).update(public_token=secrets.token_urlsafe(16))
    token = Report.objects.filter(pk=report_id).values_list("public_token", flat=True).first()
    return token and reverse("public-report", args=[token])


@never_cache
@require_sign_in("POST")
def publish_report(request, pk):
    """Enqueue the job that asks, unless one does already or the report is not finished."""
    report = get_own_report(request, pk)

    def enqueue():
        count_request(request.user)
        # A second click at the same moment gets the same job.
        key = f"publish:{pk}:{report.publication_id}"
        options = {"owner": request.user, "title": report.title, "url": report.get_absolute_url()}
        result = publish.using(key=key, **options).enqueue(pk)
        Report.objects.filter(pk=pk).update(publication_id=result.id)
        return result

    if report.public_token or has_active_job(report) or is_asked(report):
        return HttpResponse(status=303, headers={"Location": report.get_absolute_url()})
    return accepted(request, enqueue)


@never_cache
@require_sign_in("POST")
def unpublish_report(request, pk):
    """Remove the public page of a report. A later one has another link."""
    report = get_own_report(request, pk)
    Report.objects.filter(pk=report.pk).update(public_token=None)
    return HttpResponse(status=303, headers={"Location": report.get_absolute_url()})


@never_cache
@require_safe
def public_report(request, token):
    """Show the totals and the response times of a public report to anyone with its link."""
    if "\0" in token:
        raise Http404
    report = get_object_or_404(Report.objects.defer("urls"), public_token=token)
    calls = read_outcomes(report)
    totals = compute_totals(calls)
    context = {
        "report": report,
        "totals": totals,
        "passed": describe_passed(totals.ok, report.size),
        "problems": describe_outcomes(failed=totals.failed, refused=totals.refused),
        "chart": build_chart(calls),
    }
    response = render(request, "asyncsite/public_report.html", context)
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex"
    return response
