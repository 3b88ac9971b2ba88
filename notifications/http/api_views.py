"""The HTTP side for programs: jobs and their results, notifications."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from notifications import serializers, streams
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.http import until_done
from notifications.http.acceptance import RETRY_AFTER, job_etag, job_response
from notifications.http.prefer import seconds_to_wait, wait_slot_or_refuse
from notifications.http.requests import (
    aapi,
    admit,
    api,
    exempt_from_host,
    is_known,
    json_object,
    query_limit,
    query_number,
    uuids,
    whole_number,
)
from notifications.http.waiting import WaitSlot, close_connections, release_thread
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.problems import Problem, private
from notifications.realtime import hub, reader
from notifications.streams import changes, inbox, listing

#: Items of a page, unless told and at most; ids in one request.
PAGE_SIZE, MAX_PAGE_SIZE, MAX_IDS = 50, 100, 200


@api("GET")
def jobs(request: HttpRequest) -> HttpResponse:
    """Answer a page of my jobs, newest first, of one ``state`` if one is given."""
    user = request.user.pk
    limit = query_limit(request, PAGE_SIZE, MAX_PAGE_SIZE)
    reader.number_first([user])
    # A page of them must not weigh what they took and returned.
    rows = Job.objects.using(database()).filter(user=user).defer("args", "kwargs", "result")
    if (state := request.GET.get("state")) is not None:
        if state not in Job.State.values:
            raise Problem(422, f"state must be one of {', '.join(Job.State.values)}.", field="state")
        rows = rows.filter(state=state)
    if (after := request.GET.get("after")) is not None:
        rows = rows.filter(id__lt=uuids([after], "after", 1)[0])
    page = list(rows.order_by("-id")[: limit + 1])
    more = len(page) > limit
    del page[limit:]
    return _json(serializers.encode_list(page, next=str(page[-1].id) if more else None))


@aapi
async def job(request: HttpRequest, id: UUID) -> HttpResponse:
    """Answer a job of mine, with ``Retry-After`` until it is done; 304 if it has not changed.

    With ``Prefer: wait=N`` it is answered when it is done, or after N seconds as it is then, but not under WSGI.
    """
    seconds = seconds_to_wait(request)
    mine, seat = await sync_to_async(_read_job_and_take_wait_slot)(request, id, seconds)
    if seat:
        here = hub.current_hub()
        try:
            release_thread()
            await until_done.wait(id, seconds)
        finally:
            seat.leave()
        mine = await here.questions.run(_found, mine.user_id, id)
    if is_known(job_etag(mine), request):
        response = private(HttpResponse(status=304, headers={"ETag": job_etag(mine)}))
        if not mine.done:
            response["Retry-After"] = str(RETRY_AFTER)
    else:
        response = job_response(mine)
    if seconds:
        response["Preference-Applied"] = f"wait={seconds}"
    return response


@api("GET")
def job_result(request: HttpRequest, id: UUID) -> HttpResponse:
    """Answer the JSON that a job of mine returned; 409 while it is not finished, or when it failed."""
    mine = _own_job(request.user.pk, id)
    if not mine.done:
        raise Problem(
            409,
            "The job is not done. Ask again when its state says so.",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    if mine.state != Job.State.SUCCEEDED:
        raise Problem(409, f"The job was {mine.state}: it has no result. Its error is in the job.")
    result = mine.result or "null"
    try:
        serializers.decode(result)
    except (ValueError, RecursionError) as exc:
        raise Problem(409, "The result is damaged: it is not JSON. Ask for the work again.") from exc
    return _json(result)


@api("POST")
def job_cancel(request: HttpRequest, id: UUID) -> HttpResponse:
    """Cancel a job of mine: 200 if it is cancelled now, 202 if it runs and is asked to end, 409 if it is done."""
    if not _own_job(request.user.pk, id).done:
        manual.cancel([id], by=request.user.pk)
    mine = _own_job(request.user.pk, id)
    if mine.done and mine.state != Job.State.CANCELLED:
        raise Problem(409, f"The job has {mine.state} already.")
    return job_response(mine, status=200 if mine.done else 202)


@api("POST")
def job_retry(request: HttpRequest, id: UUID) -> HttpResponse:
    """Have a job of mine tried again: 202; 409 unless it has failed or was cancelled."""
    mine = _own_job(request.user.pk, id)
    try:
        queued = mine.state in manual.RETRYABLE_STATES and manual.retry([id])
    except TooManyJobs as exc:
        raise Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}) from exc
    if not queued:
        raise Problem(409, f"The job is {mine.state}. Only one that failed or was cancelled is tried again.")
    return job_response(_own_job(request.user.pk, id), status=202)


@api("GET")
def notifications(request: HttpRequest) -> HttpResponse:
    """Answer a page of my notifications, newest first, and the position that was read before them."""
    user = request.user.pk
    unread = query_number(request, "unread", high=1)
    archived = query_number(request, "archived", high=1)
    limit = query_limit(request, PAGE_SIZE, MAX_PAGE_SIZE)
    after = query_number(request, "after")
    category = request.GET.get("category")
    if "\0" in (category or ""):
        raise Problem(422, "category holds a NUL. Leave it out.", field="category")
    reader.number_first([user])
    epoch, position = streams.epoch(), changes.position(user)
    page = listing.read_newest(
        user,
        limit + 1,
        head=position.head,
        after=after,
        archived=bool(archived),
        read=None if unread is None else not unread,
        category=category,
    )
    more = len(page) > limit
    del page[limit:]
    return _json(
        serializers.encode_list(
            page,
            next=page[-1].raised if more else None,
            epoch=epoch,
            seq=position.head,
            unread=position.unread,
        )
    )


@api("POST")
def mark(request: HttpRequest, verb: str) -> HttpResponse:
    """Read, unread, archive or unarchive my notifications, none raised after ``up_to``, only ``ids`` if given."""
    user = request.user.pk
    body = json_object(request)
    up_to = whole_number(body.get("up_to"), "up_to", high=changes.position(user).head)
    ids = uuids(body["ids"], "ids", MAX_IDS) if body.get("ids") is not None else None
    more = inbox.mark(user, verb, up_to, ids)
    position = changes.position(user)
    answer = {"epoch": streams.epoch(), "seq": position.head, "unread": position.unread, "more": more}
    return _json(serializers.encode(answer))


@exempt_from_host
@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Answer a path of the API that does not exist."""
    slash = "" if request.path.endswith("/") else " Its paths end with a slash."
    return Problem(
        404, f"There is nothing here in the API.{slash} Take paths from what it answers."
    ).response()


def _read_job_and_take_wait_slot(request: HttpRequest, id: UUID, seconds: int) -> tuple[Job, WaitSlot | None]:
    """Return a job and, where its end is to be waited for, a seat; then no connection is held here."""
    admit(request, "GET")
    mine = _own_job(request.user.pk, id)
    if mine.done or not seconds:
        return mine, None
    seat = wait_slot_or_refuse(request.user.pk)
    close_connections()
    return mine, seat


def _own_job(user: Any, id: UUID) -> Job:
    """Return a job of the user (key); somebody else's is answered exactly like one that does not exist."""
    reader.number_first([user])
    return _found(user, id)


def _found(user: Any, id: UUID) -> Job:
    try:
        return Job.objects.using(database()).get(pk=id, user=user)
    except Job.DoesNotExist as exc:
        raise Problem(404, "There is no such job. Ask jobs/ for those that there are.") from exc


def _json(text: str) -> HttpResponse:
    return private(HttpResponse(text, content_type="application/json"))
