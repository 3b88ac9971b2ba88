"""The form that snoozes notifications, on the inbox page and on that of one notification."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.http import require_POST

from notifications import times
from notifications.extension import hooks
from notifications.http import inbox_changes, inbox_query
from notifications.http.inbox_changes import MAX_IDS, SNOOZE, SNOOZE_TIMES, RowsChanged
from notifications.http.inbox_query import parse_position
from notifications.http.inbox_views import PART, parse_uuid, redirect
from notifications.http.page_views import page_view, text_response
from notifications.streams import snoozing
from notifications.streams.marking import MAX_MARKED_ROWS

#: The hour at which days begin for what is snoozed.
MORNING = time(8)


@page_view
@require_POST
def snooze(request: HttpRequest) -> HttpResponse:
    """Snooze a notification, or those that are checked, and return to the page of the form.

    ``until`` is one of ``SNOOZE_TIMES``, followed by a notification's id if its row has the button, or ``time`` for the
    local time in ``time``. ``zone`` is the time zone of the browser; without it, as without JavaScript, that
    which the reader has chosen holds.
    With ``part`` a page that is open has sent the form, with up to ``MAX_MARKED_ROWS`` ids: the response is empty, or
    says what is wrong with the time, with the status 422.
    """
    user = request.user.pk
    query = inbox_query.parse(QueryDict(request.POST.get("query", "")))
    up_to = parse_position(request.POST.get("up_to", ""))
    in_place = PART in request.POST
    until, _, own = request.POST.get("until", "").partition(".")
    snoozed = "" if in_place else own or request.POST.get("snoozed", "")
    ids = [snoozed] if snoozed else request.POST.getlist("id")
    if not ids:
        return redirect(request, query, inbox_changes.NOTHING_SELECTED)
    moment = _parse_until(until, request.POST.get("time", ""), _zone_of(user, request.POST.get("zone", "")))
    parsed = [parse_uuid(text) for text in ids[: MAX_MARKED_ROWS if in_place else MAX_IDS]]
    try:
        marked = snoozing.snooze(user, parsed, up_to, moment)
    except ValueError:
        if in_place:
            return text_response(inbox_changes.describe_wrong_time(), status=422)
        return redirect(request, query, inbox_changes.WRONG_TIME)
    if in_place:
        return HttpResponse(status=204)
    return redirect(request, query, RowsChanged(verb=SNOOZE, ids=tuple(marked.changed)).encode())


def _parse_until(until: str, local_time: str, zone: ZoneInfo) -> datetime:
    """Return the time that a form chooses. Raises BadRequest."""
    now = times.now().astimezone(zone)
    match until:
        case "hours":
            return times.now() + timedelta(hours=3)
        case "tomorrow":
            return _morning(now, 1)
        case "monday":
            return _morning(now, 7 - now.weekday())
        case "time":
            try:
                chosen = datetime.fromisoformat(local_time)
                return (chosen if chosen.tzinfo else chosen.replace(tzinfo=zone)).astimezone(UTC)
            except (ValueError, OverflowError):
                return datetime.min.replace(tzinfo=UTC)
    raise BadRequest(f"until must be one of {', '.join(SNOOZE_TIMES)}, time.")


def _morning(now: datetime, days: int) -> datetime:
    return datetime.combine(now.date() + timedelta(days=days), MORNING, now.tzinfo)


def _zone_of(user: Any, name: str) -> ZoneInfo:
    if name in times.zone_names():
        return ZoneInfo(name)
    return times.first_zone(*(hook(user) for hook in hooks.time_zone_of))
