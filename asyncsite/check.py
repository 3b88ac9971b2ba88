"""The page that calls one URL within the request; a call that takes too long becomes a report."""

import asyncio
from dataclasses import asdict

from asgiref.sync import sync_to_async
from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from asyncsite.access import FORMS, signed_in
from asyncsite.asking import Unreadable, WrongValues, read_url
from asyncsite.calling import call
from asyncsite.forms import TITLE_LENGTH, CheckForm
from asyncsite.limits import TooManyReports, TooManyRequests, count_request
from asyncsite.problems import detail_of, problem, sends_json, wants_json
from asyncsite.tasks import ask_report
from notifications.api import aaccepted, requester
from notifications.http.request_resources import release_connections

PATIENCE = 2.0  # seconds


@never_cache
@signed_in("GET", "HEAD", "POST", accepts=(*FORMS, "application/json"))
async def check(request):
    """Show the form (GET), or call one URL and show its answer, or the job that will have it (POST)."""
    if request.method != "POST":
        return await page(request, CheckForm())
    if sends_json(request):
        try:
            return await answer(request, read_url(request.body), form=None)
        except Unreadable as error:
            return problem(400, str(error))
        except WrongValues as error:
            return problem(422, str(error), errors=error.errors)
    form = CheckForm(request.POST)
    if form.is_valid():
        return await answer(request, form.cleaned_data["url"], form=form)
    if wants_json(request):
        errors = [{"field": "url", "detail": text} for text in form.errors["url"]]
        return problem(422, "Some values are wrong.", errors=errors)
    return await page(request, form, status=422)


async def answer(request, url, *, form):
    try:
        await sync_to_async(count_request)(request.user)
    except TooManyRequests as error:
        refusal = problem(429, str(error), headers={"Retry-After": str(error.retry_after)})
        return await refused(request, refusal, form=form)
    # The session was read from the database. Its connection must not be held while the other API is awaited.
    await release_connections()
    try:
        # As the caller, so that a URL of theirs that fails opens no circuit for others.
        with requester(request.user):
            async with asyncio.timeout(PATIENCE):
                came = await call(url)
    except TimeoutError:
        return await later(request, url, form=form)
    if wants_json(request):
        return JsonResponse({"url": url, **asdict(came)})
    return await page(request, form, url=url, answer=came)


async def later(request, url, *, form):
    try:
        response = await aaccepted(
            request, lambda: ask_report(request.user, [url], title=f"Check {url}"[:TITLE_LENGTH])
        )
    except TooManyReports as error:
        response = problem(409, str(error))
    return response if response.status_code < 400 else await refused(request, response, form=form)


async def refused(request, response, *, form):
    """Return a problem to a program as it is, and to a person as the form with its text."""
    if wants_json(request):
        return response
    form.add_error(None, detail_of(response))
    shown = await page(request, form, status=response.status_code)
    if "Retry-After" in response:
        shown["Retry-After"] = response["Retry-After"]
    return shown


async def page(request, form, *, status=200, **context):
    # In a thread, because the page's header queries the user and the unread count.
    return await sync_to_async(render)(
        request, "asyncsite/check.html", {"form": form, **context}, status=status
    )
