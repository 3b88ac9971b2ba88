"""Reports: the list with its form, the page of each report, and the downloads."""

import hashlib
import re

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from asyncsite.access import FORM_TYPES, get_own_report, require_sign_in
from asyncsite.client_strings import client_strings
from asyncsite.downloads import to_csv, to_dict
from asyncsite.forms import ReportForm
from asyncsite.jobs import find_job, has_active_job
from asyncsite.json_input import InvalidJson, InvalidValues, ReportRequest, parse_report
from asyncsite.limits import TooManyReports, count_request
from asyncsite.listing import build_rows
from asyncsite.models import Report
from asyncsite.problems import problem_response, read_detail, sends_json, wants_json
from asyncsite.report_page import build_context, compute_etag
from asyncsite.samples import sample_urls
from asyncsite.summary import compute_totals
from asyncsite.tasks import NothingToTryAgain, enqueue_failed_calls, enqueue_report
from notifications.api import accepted

PAGE_SIZE = 25


@never_cache
@require_sign_in("GET", "HEAD", "POST", accepts=(*FORM_TYPES, "application/json"))
def reports(request):
    """GET lists the user's reports and shows the form. POST creates a report from the form or from JSON."""
    if request.method != "POST":
        return render_reports(request, ReportForm(initial=initial_values(request)))
    if sends_json(request):
        return create_from_json(request)
    form = ReportForm(request.POST, request.FILES)
    if form.is_valid():
        return create_from_form(request, form)
    if wants_json(request):
        errors = [{"field": field, "detail": text} for field, texts in form.errors.items() for text in texts]
        detail = "Some values are not valid." if form.status == 422 else form.errors["file"][0]
        return problem_response(form.status, detail, errors=errors)
    return render_reports(request, form, status=form.status)


@never_cache
@require_sign_in("GET", "HEAD")
def report_table(request):
    """Return the table of a page of the list, which live.js reads again while reports run, or 304 without a change."""
    rows = build_rows(read_page(request))
    html = render_to_string("asyncsite/report_table.html", {"rows": rows}, request)
    etag = quote_etag(hashlib.sha256(html.encode()).hexdigest()[:32])
    return get_conditional_response(request, etag=etag, response=HttpResponse(html, headers={"ETag": etag}))


@never_cache
@require_sign_in("GET", "HEAD")
def report(request, pk):
    """Show progress, totals, chart and calls. While the job is active, the page re-reads ``report_content``."""
    report = get_own_report(request, pk)
    return render(request, "asyncsite/report.html", build_context(report, find_job(report), request.GET))


@never_cache
@require_sign_in("GET", "HEAD")
def report_content(request, pk):
    """Return the content of the page of a report without the layout, or 304 if it has not changed."""
    report = get_own_report(request, pk)
    job = find_job(report)
    etag = compute_etag(report, job, request.GET)
    if response := get_conditional_response(request, etag=etag):
        return response
    context = {**build_context(report, job, request.GET), "is_fragment": True}
    response = render(request, "asyncsite/report_content.html", context)
    response["ETag"] = etag
    return response


@never_cache
@require_sign_in("GET", "HEAD")
def report_csv(request, pk):
    report = get_own_report(request, pk)
    return HttpResponse(
        to_csv(report.calls.all()),
        content_type="text/csv; charset=utf-8",
        headers=attachment_headers(f"report-{pk}.csv"),
    )


@never_cache
@require_sign_in("GET", "HEAD")
def report_json(request, pk):
    report = get_own_report(request, pk)
    calls = list(report.calls.all())
    content = to_dict(report, compute_totals(calls), calls)
    return JsonResponse(content, headers=attachment_headers(f"report-{pk}.json"))


@never_cache
@require_sign_in("POST")
def delete_report(request, pk):
    """Delete a report with its calls, unless its job is active. Its notifications stay."""
    report = get_own_report(request, pk)
    if has_active_job(report):
        detail = _("The report is still running. Cancel it, then delete it.")
        if wants_json(request):
            return problem_response(409, detail)
        context = {"heading": _("The report was not deleted"), "text": detail}
        return render(request, "message.html", context, status=409)
    report.delete()
    if wants_json(request):
        return HttpResponse(status=204)
    return HttpResponse(status=303, headers={"Location": reverse("reports")})


@never_cache
@require_sign_in("POST")
def retry_calls(request, pk):
    """Have failed URLs of a finished report called again: the one at ``position`` of the form, or all of them."""
    report = get_own_report(request, pk)
    position = request.POST.get("position", "")

    def enqueue():
        count_request(request.user)
        return enqueue_failed_calls(report, int(position) if position else None)

    try:
        if (not position or re.fullmatch("[0-9]{1,9}", position)) and not has_active_job(report):
            return accepted(request, enqueue)
    except NothingToTryAgain:
        pass
    # A press that comes second, or after the end of another one, shows what there is.
    return HttpResponse(status=303, headers={"Location": report.get_absolute_url()})


@require_safe
def favicon(request):
    """Redirect to the icon, whose URL may have a hash."""
    return HttpResponseRedirect(static("asyncsite/icon.svg"))


def create_from_json(request):
    try:
        requested = parse_report(request.body)
    except InvalidJson as error:
        return problem_response(400, str(error))
    except InvalidValues as error:
        return problem_response(422, str(error), errors=error.errors)
    return create_report(request, requested)


def create_from_form(request, form):
    requested = ReportRequest(urls=form.cleaned_data["urls"], title=form.cleaned_data["title"])
    response = create_report(request, requested)
    if response.status_code < 400 or wants_json(request):
        return response
    # A limit is reached, or the database is busy: the form keeps what the user has typed.
    form.add_error(None, read_detail(response))
    page = render_reports(request, form, status=response.status_code)
    if "Retry-After" in response:
        page["Retry-After"] = response["Retry-After"]
    return page


def create_report(request, requested):
    def enqueue():
        count_request(request.user)
        return enqueue_report(request.user, requested.urls, title=requested.title)

    try:
        return accepted(request, enqueue)
    except TooManyReports as error:
        return problem_response(409, str(error))


def render_reports(request, form, *, status=200):
    if form.is_bound:
        form.require_file_again()
    page = read_page(request)
    context = {
        "form": form,
        "page": page,
        "rows": build_rows(page),
        "has_job": bool(page),
        "samples": sample_urls(),
        "retention_days": settings.REPORT_RETENTION.days,
        "client_strings": client_strings(),
    }
    return render(request, "asyncsite/reports.html", context, status=status)


def read_page(request):
    own = Report.objects.filter(owner=request.user).defer("urls").order_by("-id")
    return Paginator(own, PAGE_SIZE).get_page(request.GET.get("page"))


def initial_values(request):
    """Return what the form holds at first: the samples, the URLs of an earlier report, or nothing."""
    if "sample" in request.GET:
        return {"urls": "\n".join(sample_urls())}
    if pk := request.GET.get("again"):
        report = get_own_report(request, pk)
        return {"urls": "\n".join(report.urls), "title": report.title}
    return {}


def attachment_headers(name):
    return {"Content-Disposition": f'attachment; filename="{name}"'}
