"""Reports: the list with its form, a page for each, and the downloads."""

import json

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from asyncsite.access import FORMS, signed_in
from asyncsite.asking import Unreadable, Wanted, WrongValues, read_report
from asyncsite.chart import chart
from asyncsite.downloads import as_csv, as_dict
from asyncsite.forms import ReportForm
from asyncsite.limits import TooManyReports, count_request
from asyncsite.listing import listed
from asyncsite.models import Call, Report
from asyncsite.problems import detail_of, problem, sends_json, wants_json
from asyncsite.pruning import ACTIVE
from asyncsite.samples import sample_urls
from asyncsite.summary import answer_times, totals
from asyncsite.tasks import ask_report
from notifications.api import accepted
from notifications.models import Job

A_PAGE = 25
BIGGEST_ID = 2**63 - 1


@never_cache
@signed_in("GET", "HEAD", "POST", accepts=(*FORMS, "application/json"))
def reports(request):
    """GET: my reports and the form for a new one. POST: a new one, from the form, maybe with a file, or from JSON."""
    if request.method != "POST":
        return reports_page(request, ReportForm(initial=prefilled(request)))
    if sends_json(request):
        return report_from_json(request)
    form = ReportForm(request.POST, request.FILES)
    if form.is_valid():
        return report_from_form(request, form)
    if wants_json(request):
        errors = [{"field": field, "detail": text} for field, texts in form.errors.items() for text in texts]
        detail = "Some values are wrong." if form.status == 422 else form.errors["file"][0]
        return problem(form.status, detail, errors=errors)
    return reports_page(request, form, status=form.status)


@never_cache
@signed_in("GET", "HEAD")
def report(request, pk):
    """Live progress while the job is at it; then totals, chart and table."""
    row = own_report(request, pk)
    job = Job.objects.filter(pk=row.job_id).first()
    calls = list(row.calls.all())
    if job is None or job.done:
        return render(request, "asyncsite/report.html", done_context(request, row, job, calls))
    context = {"report": row, "job": job, "called": len(calls), "words": totals(calls).words}
    return render(request, "asyncsite/running.html", context)


@never_cache
@signed_in("GET", "HEAD")
def report_csv(request, pk):
    row = own_report(request, pk)
    return HttpResponse(
        as_csv(row.calls.all()),
        content_type="text/csv; charset=utf-8",
        headers=attachment(f"report-{pk}.csv"),
    )


@never_cache
@signed_in("GET", "HEAD")
def report_json(request, pk):
    row = own_report(request, pk)
    calls = list(row.calls.all())
    return JsonResponse(as_dict(row, totals(calls), calls), headers=attachment(f"report-{pk}.json"))


@never_cache
@signed_in("POST")
def delete_report(request, pk):
    """Delete a report of mine with its calls, unless its job is active. What notifications say of it stays."""
    row = own_report(request, pk)
    if Job.objects.filter(pk=row.job_id, state__in=ACTIVE).exists():
        detail = "The report is still running. Cancel it, then delete it."
        if wants_json(request):
            return problem(409, detail)
        context = {"heading": "The report was not deleted", "text": detail}
        return render(request, "message.html", context, status=409)
    row.delete()
    if wants_json(request):
        return HttpResponse(status=204)
    return HttpResponse(status=303, headers={"Location": reverse("reports")})


def report_from_json(request):
    try:
        wanted = read_report(request.body)
    except Unreadable as error:
        return problem(400, str(error))
    except WrongValues as error:
        return problem(422, str(error), errors=error.errors)
    return new_report(request, wanted)


def report_from_form(request, form):
    wanted = Wanted(urls=form.cleaned_data["urls"], title=form.cleaned_data["title"])
    response = new_report(request, wanted)
    if response.status_code < 400 or wants_json(request):
        return response
    # Too many active jobs, or a busy database: what was typed comes back with the reason.
    form.add_error(None, detail_of(response))
    shown = reports_page(request, form, status=response.status_code)
    if "Retry-After" in response:
        shown["Retry-After"] = response["Retry-After"]
    return shown


def new_report(request, wanted):
    def ask():
        count_request(request.user)
        return ask_report(request.user, wanted.urls, title=wanted.title)

    try:
        return accepted(request, ask)
    except TooManyReports as error:
        return problem(409, str(error))


def reports_page(request, form, *, status=200):
    if form.is_bound:
        form.ask_for_the_file_again()
    mine = Report.objects.filter(owner=request.user).defer("urls").order_by("-id")
    page = Paginator(mine, A_PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "listed": listed(page),
        "samples": sample_urls(),
        "retention_days": settings.REPORT_RETENTION.days,
    }
    return render(request, "asyncsite/reports.html", context, status=status)


def prefilled(request):
    """What the empty form holds: nothing, the samples, or the URLs of an earlier report of mine."""
    if "sample" in request.GET:
        return {"urls": "\n".join(sample_urls())}
    if again := request.GET.get("again"):
        row = own_report(request, again)
        return {"urls": "\n".join(row.urls), "title": row.title}
    return {}


def own_report(request, pk):
    """The report, if it is the asker's; somebody else's is not found, exactly like one that does not exist."""
    if not str(pk).isdecimal() or len(str(pk)) > len(str(BIGGEST_ID)) or int(pk) > BIGGEST_ID:
        raise Http404
    return get_object_or_404(Report.objects.defer("urls"), pk=pk, owner=request.user)


def done_context(request, row, job, calls):
    chosen = request.GET.get("outcome")
    chosen = chosen if chosen in Call.Outcome.values else None
    return {
        "report": row,
        "job": job,
        "error": json.loads(job.error) if job and job.error else None,
        "totals": totals(calls),
        "chart": chart(answer_times(calls)),
        "missing": row.size - len(calls),
        "chosen": chosen,
        "calls": [call for call in calls if chosen in (None, call.outcome)],
    }


def attachment(name):
    return {"Content-Disposition": f'attachment; filename="{name}"'}
