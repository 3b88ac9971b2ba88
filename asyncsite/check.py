"""The page that calls one URL within the request. A call that takes too long becomes a report."""

import asyncio
from dataclasses import asdict

from asgiref.sync import sync_to_async
from django.http import JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from asyncsite.access import FORM_TYPES, require_sign_in
from asyncsite.calls import call_url
from asyncsite.forms import MAX_TITLE_LENGTH, CheckForm
from asyncsite.json_input import InvalidJson, InvalidValues, parse_url
from asyncsite.limits import TooManyReports, TooManyRequests, count_request
from asyncsite.problems import problem_response, read_detail, sends_json, wants_json
from asyncsite.tasks import enqueue_report
from notifications.api import aaccepted, release_connections, requester

MAX_WAIT_SECONDS = 2.0


@never_cache
@require_sign_in("GET", "HEAD", "POST", accepts=(*FORM_TYPES, "application/json"))
async def check(request):
    """GET shows the form. POST calls one URL and shows the result, or enqueues a report if it takes too long."""
    if request.method != "POST":
        return await render_page(request, CheckForm())
    if sends_json(request):
        try:
            return await call_and_respond(request, parse_url(request.body), form=None)
        except InvalidJson as error:
            return problem_response(400, str(error))
        except InvalidValues as error:
            return problem_response(422, str(error), errors=error.errors)
    form = CheckForm(request.POST)
    if form.is_valid():
        return await call_and_respond(request, form.cleaned_data["url"], form=form)
    if wants_json(request):
        errors = [{"field": "url", "detail": text} for text in form.errors["url"]]
        return problem_response(422, "Some values are not valid.", errors=errors)
    return await render_page(request, form, status=422)


async def call_and_respond(request, url, *, form):
    try:
        await sync_to_async(count_request)(request.user)
    except TooManyRequests as error:
        problem = problem_response(429, str(error), headers={"Retry-After": str(error.retry_after)})
        return await respond_with_problem(request, problem, form=form)
    # The session was read from the database. Its connection must not be held while the call is awaited.
    await release_connections()
    try:
        # With the user as requester, so that their failing URLs open no circuit breaker for other users.
        with requester(request.user):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                result = await call_url(url)
    except TimeoutError:
        return await enqueue_and_respond(request, url, form=form)
    if wants_json(request):
        return JsonResponse({"url": url, **asdict(result)})
    return await render_page(request, form, url=url, result=result)


async def enqueue_and_respond(request, url, *, form):
    title = _("Check {url}").format(url=url)[:MAX_TITLE_LENGTH]
    try:
        response = await aaccepted(request, lambda: enqueue_report(request.user, [url], title=title))
    except TooManyReports as error:
        response = problem_response(409, str(error))
    if response.status_code < 400:
        return response
    return await respond_with_problem(request, response, form=form)


async def respond_with_problem(request, problem, *, form):
    """Return a problem unchanged to a program, and to a browser as an error of the form."""
    if wants_json(request):
        return problem
    form.add_error(None, read_detail(problem))
    response = await render_page(request, form, status=problem.status_code)
    if "Retry-After" in problem:
        response["Retry-After"] = problem["Retry-After"]
    return response


async def render_page(request, form, *, status=200, **context):
    # In a thread: the layout queries the user and the unread count.
    return await sync_to_async(render)(
        request, "asyncsite/check.html", {"form": form, **context}, status=status
    )
