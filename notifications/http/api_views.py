"""Views of the API for jobs, their results, and notifications."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from notifications import serializers, streams, times
from notifications.db.keyset import NEWEST_FIRST, RowPosition
from notifications.db.thread_connections import close_idle_connections
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.http.access import (
    api_view,
    async_api_view,
    check_request,
    exempt_from_project,
    json_response,
)
from notifications.http.job_responses import RETRY_AFTER_SECONDS, job_etag, job_response, wait_for_job
from notifications.http.negotiation import is_not_modified, wait_seconds
from notifications.http.parsing import (
    check_level,
    check_text,
    describe_browser,
    parse_integer,
    parse_json_object,
    parse_limit,
    parse_query_integer,
    parse_receipts,
    parse_uuids,
    read_header,
)
from notifications.http.tag_views import parse_tag
from notifications.http.waiting_requests import WaitSlot, release_thread, require_wait_slot
from notifications.ids import created_at_of
from notifications.jobs import group_texts, limits, turns
from notifications.jobs.tags import ids_with_tag
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.problems import Problem, prevent_caching
from notifications.realtime import hub
from notifications.states import RETRYABLE
from notifications.streams import grouping, listing, positions
from notifications.streams.marking import mark
from notifications.streams.marking_all import UNDOING_VERBS
from notifications.streams.marking_seen import mark_seen

#: Items on a page of a list.
#: Notifications that one request can name.
MAX_IDS = 200


@api_view("GET")
def job_list(request: HttpRequest) -> HttpResponse:
    """Return a page of the user's jobs, newest first, optionally with one ``state`` or ``tag`` only."""
    user = request.user.pk
    limit = parse_limit(request)
    streams.number_if_needed([user])
    # Arguments and results may be large, and items do not show them.
    rows = Job.objects.using(database()).filter(user=user).defer("args", "kwargs", "result")
    if (state := request.GET.get("state")) is not None:
        if state not in Job.State.values:
            raise Problem(422, f"state must be one of {', '.join(Job.State.values)}.", field="state")
        rows = rows.filter(state=state)
    if (tag := request.GET.get("tag")) is not None:
        rows = rows.filter(pk__in=ids_with_tag(parse_tag(tag)))
    if (after := request.GET.get("after")) is not None:
        rows = NEWEST_FIRST.after(rows, _position_of(user, parse_uuids([after], "after", 1)[0]))
    page = list(NEWEST_FIRST.sort(rows)[: limit + 1])
    has_more = len(page) > limit
    del page[limit:]
    return json_response(serializers.encode_list(page, next=str(page[-1].id) if has_more else None))


def _position_of(user: Any, id: UUID) -> RowPosition:
    """Return the position of a job in the list of a user. One that was deleted is where its id was created."""
    found = (
        Job.objects.using(database()).filter(user=user, pk=id).values_list("created_at", flat=True).first()
    )
    created_at = found or created_at_of(id)
    if created_at is None:
        raise Problem(404, "after names no job of yours. Begin with the first page.", field="after")
    return RowPosition((created_at, id))


@async_api_view
async def job_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return a job of the user, or 304 if ``If-None-Match`` names its current state.

    ``Prefer: wait=N`` delays the response until the job is done, at most N seconds. It is ignored under WSGI.
    """
    seconds = wait_seconds(request)
    job, slot = await sync_to_async(_read_job_and_acquire_slot)(request, id, seconds)
    if slot:
        current_hub = hub.current_hub()
        try:
            release_thread()
            await wait_for_job(id, seconds)
        finally:
            slot.release()
        job = await current_hub.query_pool.run(_get_job, job.user_id, id)
    if is_not_modified(job_etag(job), request):
        response = prevent_caching(HttpResponse(status=304, headers={"ETag": job_etag(job)}))
        if not job.done:
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    else:
        response = job_response(job)
    if seconds:
        response["Preference-Applied"] = f"wait={seconds}"
    return response


@api_view("GET")
def job_place(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return how many jobs of the same share begin before a job of the user, null if it does not wait for its turn."""
    return json_response({"before": turns.count_before(_get_job(request.user.pk, id))})


@api_view("GET")
def job_result(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return the JSON result of a job of the user, or 409 if it has none (yet)."""
    job = _get_numbered_job(request.user.pk, id)
    if not job.done:
        raise Problem(
            409,
            "The job is not done. Try again when its state is succeeded.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    if job.state != Job.State.SUCCEEDED:
        raise Problem(409, f"The job has no result, because its state is {job.state}. See its error.")
    result = job.result or "null"
    try:
        serializers.decode(result)
    except (ValueError, RecursionError) as exc:
        raise Problem(409, "The stored result is damaged: it is not JSON. Enqueue the job again.") from exc
    return json_response(result)


@api_view("POST")
def job_cancel(request: HttpRequest, id: UUID) -> HttpResponse:
    """Cancel a job of the user: 200 if it is cancelled, 202 if it runs and was asked to stop, 409 if it had ended."""
    if not _get_numbered_job(request.user.pk, id).done:
        manual.cancel([id], by=request.user.pk)
    job = _get_numbered_job(request.user.pk, id)
    if job.done and job.state != Job.State.CANCELLED:
        raise Problem(409, f"The job has already {job.state}.")
    return job_response(job, status=200 if job.done else 202)


@api_view("POST")
def job_retry(request: HttpRequest, id: UUID) -> HttpResponse:
    """Queue a job of the user again: 202, or 409 unless it has failed or was cancelled."""
    job = _get_numbered_job(request.user.pk, id)
    try:
        was_queued = job.state in RETRYABLE and limits.retry_within_rate(
            request.user.pk, id, lambda: manual.retry([id], by=request.user.pk)
        )
    except TooManyJobs as exc:
        raise Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}) from exc
    if not was_queued:
        raise Problem(409, f"The job is {job.state}. Only a failed or cancelled job can be retried.")
    return job_response(_get_numbered_job(request.user.pk, id), status=202)


@api_view("GET")
def notification_list(request: HttpRequest) -> HttpResponse:
    """Return a page of the user's notifications, newest first, with the stream position from before they were read."""
    user = request.user.pk
    unread = parse_query_integer(request, "unread", maximum=1)
    archived = parse_query_integer(request, "archived", maximum=1)
    questions = parse_query_integer(request, "questions", maximum=1)
    grouped = parse_query_integer(request, "grouped", maximum=1)
    limit = parse_limit(request)
    after = parse_query_integer(request, "after")
    level = request.GET.get("level")
    category = check_text(request.GET.get("category"), "category")
    position = listing.read_numbered_position(user)
    below = position.seq + 1 if after is None else min(after, position.seq + 1)
    filters = listing.Filters(
        archived=bool(archived),
        read=None if unread is None else not unread,
        questions=bool(questions),
        group=check_text(request.GET.get("group"), "group"),
        categories=() if category is None else (category,),
        level="" if level is None else check_level(level),
    )
    page: listing.ListPage | grouping.GroupedRows
    if grouped and filters.has_groups:
        page = grouping.read_grouped(user, limit, head=position.seq, below=below, filters=filters)
    else:
        page = listing.read_page(user, limit, below=below, filters=filters)
    return json_response(
        serializers.encode_list(
            page.rows,
            next=page.end,
            epoch=position.epoch,
            seq=position.seq,
            unread=position.unread,
            unseen=position.unseen,
            **({"questions": position.questions, "badge": position.badge} if questions else {}),
            **({"groups": _serialize_groups(page)} if grouped else {}),
        )
    )


def _serialize_groups(page: listing.ListPage | grouping.GroupedRows) -> dict[str, dict[str, Any]]:
    """Return the groups of a page by the ids of their newest notifications, which are its items."""
    if isinstance(page, listing.ListPage):
        return {}
    newest = {row.pk: row for row in page.rows if row.pk in page.groups}
    jobs = group_texts.read_jobs(newest.values())
    groups = {}
    for id, group in page.groups.items():
        texts = group_texts.describe_group(group, newest[id], jobs.get(newest[id].job))
        groups[str(id)] = {
            "key": group.key,
            "title": group_texts.name_people(group)
            or (f"{texts.title}: {group.total}+" if group.has_more else texts.title),
            "body": texts.body,
            "count": group.total,
            "more": group.has_more,
            "unread": group.is_unread,
            "level": texts.level,
        }
    return groups


@api_view("POST")
def notification_mark(request: HttpRequest, verb: str) -> HttpResponse:
    """Mark notifications of the user up to position ``up_to``: all of them, or those in ``ids``.

    ``group``, ``category`` and ``level`` select some of them. A request with one of the last two ends after a bounded
    number of rows; the ``next`` of its response is the ``after`` of the next request. ``undo`` in the response to a
    request with ``group`` is the body of one with the inverse verb, which changes back exactly these rows.
    ``verb`` is ``"read"``, ``"unread"``, ``"archive"`` or ``"unarchive"``.
    """
    user = request.user.pk
    body = parse_json_object(request)
    up_to = _parse_up_to(user, body)
    ids = parse_uuids(body["ids"], "ids", MAX_IDS) if body.get("ids") is not None else None
    category, level, after = body.get("category"), body.get("level"), body.get("after")
    group, changed_at = check_text(body.get("group"), "group"), None
    if verb in UNDOING_VERBS and body.get("changed_at") is not None:
        changed_at = times.from_microseconds(parse_integer(body["changed_at"], "changed_at"))
    marked = mark(
        user,
        verb,
        up_to,
        ids,
        after=0 if after is None else parse_integer(after, "after"),
        group=group,
        category=check_text(category, "category"),
        level="" if level is None else check_level(level),
        changed_at=changed_at,
    )
    values: dict[str, Any] = {}
    if (category, level, after, changed_at) != (None, None, None, None):
        values["next"] = marked.next
    if group is not None and verb not in UNDOING_VERBS:
        moment = times.to_microseconds(marked.moment)
        values["undo"] = {"up_to": up_to, "after": marked.after, "changed_at": moment}
    return _marked_response(user, has_more=marked.next is not None, **values)


@api_view("POST")
def notification_seen(request: HttpRequest) -> HttpResponse:
    """Record that the user was shown the notifications that were raised up to position ``up_to``."""
    user = request.user.pk
    body = parse_json_object(request)
    up_to = _parse_up_to(user, body)
    receipts = parse_receipts(body.get("receipts"))
    mark_seen(user, up_to, describe_browser(read_header(request, "User-Agent")), receipts)
    return _marked_response(user, has_more=False)


@exempt_from_project
@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Return 404 for a path below ``api/`` that does not exist."""
    remedy = (
        "See openapi.json for the paths."
        if request.path.endswith("/")
        else "Paths of the API end with a slash."
    )
    return Problem(404, f"The API has no such path. {remedy}").response()


def _read_job_and_acquire_slot(request: HttpRequest, id: UUID, seconds: int) -> tuple[Job, WaitSlot | None]:
    """Return a job, and a slot if the response shall wait for it. With a slot, this thread holds no connection."""
    check_request(request, "GET")
    job = _get_numbered_job(request.user.pk, id)
    if job.done or not seconds:
        return job, None
    slot = require_wait_slot(request.user.pk)
    close_idle_connections()
    return job, slot


def _get_numbered_job(user: Any, id: UUID) -> Job:
    """Return a job of the user (key) after numbering their rows. Raises Problem 404, also for jobs of other users."""
    streams.number_if_needed([user])
    return _get_job(user, id)


def _get_job(user: Any, id: UUID) -> Job:
    try:
        return Job.objects.using(database()).get(pk=id, user=user)
    except Job.DoesNotExist as exc:
        raise Problem(404, "The job does not exist. GET jobs/ lists yours.") from exc


def _parse_up_to(user: Any, body: dict[str, Any]) -> int:
    return parse_integer(body.get("up_to"), "up_to", maximum=positions.position(user).head)


def _marked_response(user: Any, *, has_more: bool, **values: Any) -> HttpResponse:
    epoch, position = positions.epoch_and_position(user)
    result = {
        "epoch": epoch,
        "seq": position.head,
        "unread": position.unread,
        "unseen": position.unseen,
        "more": has_more,
        **values,
    }
    return json_response(result)
