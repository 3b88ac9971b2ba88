"""The forms of the inbox and of one notification: mark, snooze and undo. They work without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core import signing
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from notifications import times
from notifications.extension import PageButton, hooks
from notifications.http.access import page_view
from notifications.http.parsing import describe_browser, read_header
from notifications.inbox.changes import (
    CHANGED,
    GROUPS_SELECTED,
    MAX_GROUPS,
    MAX_IDS,
    NOTHING_SELECTED,
    SAID,
    SNOOZE,
    SNOOZE_TIMES,
    TOO_MANY_VIEWS,
    UNDONE,
    WRONG_TIME,
    AllChanged,
    RowsChanged,
    describe_wrong_time,
    parse_change,
    said_salt,
)
from notifications.inbox.query import (
    PART,
    VIEWS,
    InboxQuery,
    add_parameter,
    parse_position,
    parse_query,
)
from notifications.inbox.saved_views import MAX_VIEWS, TooManyViews, put_view
from notifications.problems import Problem
from notifications.streams import snoozing
from notifications.streams.listing import find_categories
from notifications.streams.marking import INVERSE_VERBS, MAX_MARKED_ROWS, VERBS, Mark, Marked, change_rows
from notifications.streams.marking_all import TooManyPendingMarks, mark_all, mark_selected, undo_mark
from notifications.streams.marking_seen import mark_seen
from notifications.streams.positions import read_stream_position

#: Seconds after which a request that had too many changes in the background is worth another try.
PENDING_RETRY_SECONDS = 10
#: The hour at which days begin for what is snoozed.
MORNING = time(8)


@page_view
@require_POST
def mark(request: HttpRequest) -> HttpResponse:
    """Change notifications that were raised up to position ``up_to``, and return to the page of the form.

    ``one`` is a verb and an id, ``group`` a verb and a group, whatever is checked; ``all`` a verb for all that the
    page's filters select; ``verb`` is for the ``id`` and ``groups`` that are checked, each group with the position up
    to which it is shown. An open page sends up to ``MAX_MARKED_ROWS`` ids with groups. ``seen`` is the newest one on
    the page with the form. Without JavaScript it is marked as seen here and not when the page is read, because a GET
    must not write: a prefetched or restored page may not have been seen. What a list with filters has is marked by a
    URL of its own: a server of an older version, which may not know all filters, refuses it.
    """
    user = request.user.pk
    query = parse_query(QueryDict(request.POST.get("query", "")))
    up_to = parse_position(request.POST.get("up_to", ""))
    seen = parse_position(request.POST.get("seen") or "0")
    verb, ids = request.POST.get("verb", ""), request.POST.getlist("id")
    groups = request.POST.getlist("groups")
    changed = NOTHING_SELECTED
    if one := request.POST.get("one"):
        verb, _, id = one.partition(".")
        ids, groups = [id], []
    all_verb, listed = request.POST.get("all"), query
    if group := request.POST.get("group"):
        all_verb, _, key = group.partition(".")
        listed = parse_query(QueryDict(replace(query, view="inbox", group=key).encode()))
        if not listed.group:
            raise BadRequest("group must be a verb and a group of the inbox.")
    if all_verb:
        changed = _mark_all(user, all_verb, up_to, listed).encode()
    elif verb not in VERBS:
        raise BadRequest(f"verb must be one of {', '.join(VERBS)}.")
    elif groups and verb not in ("read", "archive"):
        changed = GROUPS_SELECTED
    elif groups:
        parsed, positions = [_parse_uuid(text) for text in ids[:MAX_MARKED_ROWS]], _parse_groups(groups)
        last = max(up_to, *positions.values())
        changed = _run(verb, last, lambda: mark_selected(user, verb, up_to, parsed, positions)).encode()
    elif ids:
        parsed = [_parse_uuid(text) for text in ids[:MAX_IDS]]
        marked = change_rows(Mark(user=user, verb=verb, up_to=up_to, ids=parsed))
        changed = RowsChanged(verb=verb, ids=tuple(marked.changed)).encode()
    mark_seen(user, seen, describe_browser(read_header(request, "User-Agent")))
    return redirect(request, query, changed)


@page_view
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Undo the change that the form describes: exactly the notifications that it has changed are changed back."""
    user = request.user.pk
    query = parse_query(QueryDict(request.POST.get("query", "")))
    change = parse_change(request.POST.get(CHANGED, ""))
    if change is None:
        raise BadRequest(
            "The change to undo is not valid. Open the inbox and change the notifications there."
        )
    if isinstance(change, AllChanged):
        try:
            undo_mark(user, change.verb, change.moment, change.after, change.up_to)
        except TooManyPendingMarks as exc:
            raise _refuse_change() from exc
    else:
        up_to = read_stream_position(user).seq
        change_rows(
            Mark(user=user, verb=INVERSE_VERBS.get(change.verb, "unarchive"), up_to=up_to, ids=change.ids)
        )
    return redirect(request, query, UNDONE)


@page_view
@require_POST
def save_view(request: HttpRequest) -> HttpResponse:
    """Save the list of the page as a view with the ``name`` of the form, or rename it so; and return to the page.

    ``delete`` deletes the view. ``undo`` is the query string, name and place of a view as it was before, as JSON.
    """
    user = request.user.pk
    query = parse_query(QueryDict(request.POST.get("query", "")))
    name = "" if "delete" in request.POST else request.POST.get("name", "").strip()
    if not name and not {"delete", "undo"} & set(request.POST):
        raise BadRequest("name must not be empty.")
    try:
        if stored := request.POST.get("undo"):
            put_view(user, *_parse_view(stored))
            return redirect(request, query, UNDONE)
        before, place = put_view(user, query.key, name)
    except TooManyViews:
        return redirect(request, query, TOO_MANY_VIEWS)
    if not name and not before:  # It was deleted in another tab.
        return redirect(request, query, RowsChanged(verb="archive", ids=()).encode())
    if not name:
        text = gettext("The view “%(name)s” is deleted.") % {"name": before}
    elif before:
        text = gettext("The view is renamed to “%(name)s”.") % {"name": name}
    else:
        text = gettext("The view “%(name)s” is saved.") % {"name": name}
    value = json.dumps([query.key, before, place])
    undo = PageButton(gettext("Undo"), "", reverse("notifications:inbox-views"), "undo", value)
    return redirect(request, query, (text, undo))


def _parse_view(text: str) -> tuple[str, str, int]:
    with suppress(ValueError, TypeError, RecursionError):
        query, name, place = json.loads(text)
        is_place = type(place) is int and 0 <= place <= MAX_VIEWS
        if isinstance(query, str) and isinstance(name, str) and is_place:
            return query, name, place
    raise BadRequest("The view to restore is not valid. Open the inbox and save it there.")


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
    query = parse_query(QueryDict(request.POST.get("query", "")))
    up_to = parse_position(request.POST.get("up_to", ""))
    in_place = request.POST.get(PART) == "list"
    until, _, own = request.POST.get("until", "").partition(".")
    snoozed = "" if in_place else own or request.POST.get("snoozed", "")
    ids = [snoozed] if snoozed else request.POST.getlist("id")
    if not snoozed and not in_place and "groups" in request.POST:
        return redirect(request, query, GROUPS_SELECTED)
    if not ids:
        return redirect(request, query, NOTHING_SELECTED)
    moment = _parse_until(until, request.POST.get("time", ""), _zone_of(user, request.POST.get("zone", "")))
    parsed = [_parse_uuid(text) for text in ids[: MAX_MARKED_ROWS if in_place else MAX_IDS]]
    try:
        marked = snoozing.snooze(user, parsed, up_to, moment)
    except ValueError:
        if in_place:
            raise Problem(422, describe_wrong_time()) from None
        return redirect(request, query, WRONG_TIME)
    if in_place:
        return HttpResponse(status=204)
    return redirect(request, query, RowsChanged(verb=SNOOZE, ids=tuple(marked.changed)).encode())


def _parse_until(until: str, local_time: str, zone: tzinfo) -> datetime:
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


def _zone_of(user: Any, name: str) -> tzinfo:
    """Return the time zone of this name, else the one that a user (key) has chosen, else that of the site."""
    with suppress(KeyError, OSError, ValueError):  # none, or one that does not exist
        return ZoneInfo(name)
    chosen = (hook([user]).get(user) for hook in hooks.time_zones_of)
    return next(filter(None, chosen), timezone.get_default_timezone())


def _mark_all(user: Any, verb: str, up_to: int, query: InboxQuery) -> AllChanged:
    """Change all that the page lists, on all of its pages. Raises BadRequest and Problem."""
    is_possible = (verb == "read" and query.view in ("inbox", "unread")) or (
        verb == "archive" and query.view == "inbox"
    )
    if not is_possible or query.search:
        raise BadRequest(
            "all must be read, or archive in the inbox, and without a search. Select notifications instead."
        )
    categories: Sequence[str] = query.categories
    if query.is_except:
        found = find_categories(user, up_to=up_to, filters=VIEWS[query.view])
        categories = sorted(found - set(categories))
        if not categories:
            return AllChanged(verb=verb, count=0, moment=times.now(), after=0, up_to=up_to, is_pending=False)
    group = query.group or None
    return _run(
        verb,
        up_to,
        lambda: mark_all(user, verb, up_to, group=group, categories=categories, level=query.level),
    )


def _parse_groups(values: Sequence[str]) -> dict[str, int]:
    """Return the positions up to which groups are shown, by their keys. Raises BadRequest and Problem."""
    if len(values) > MAX_GROUPS:
        raise Problem(422, gettext("Select at most %(count)d groups.") % {"count": MAX_GROUPS})
    positions = {}
    for value in values:
        raised, _, key = value.partition(".")
        if not (group := parse_query(QueryDict(InboxQuery(group=key).encode())).group):
            raise BadRequest("groups must be a position and a group of the inbox.")
        positions[group] = parse_position(raised)
    return positions


def _run(verb: str, up_to: int, mark: Callable[[], Marked]) -> AllChanged:
    try:
        marked = mark()
    except TooManyPendingMarks as exc:
        raise _refuse_change() from exc
    return AllChanged(
        verb=verb,
        count=len(marked.changed) - marked.archived,  # as the bell has counted them
        moment=marked.moment,
        after=marked.after,
        up_to=up_to,
        is_pending=marked.next is not None,
    )


def redirect(request: HttpRequest, query: InboxQuery, changed: str | tuple[str, PageButton]) -> HttpResponse:
    """Return to the page of a form, or to the message about its change only if an open inbox has sent the form.

    ``changed``
        The change, or the message of an extension with the button that undoes it, which the address has, signed
        for the user of the request.
    """
    if isinstance(changed, str):
        value = changed
    else:
        text, undo = changed
        # Otherwise a link could show another user any text, with a button that changes what they have.
        salt = said_salt(request.user.pk)
        value = SAID + signing.dumps([text, *undo], salt=salt, compress=True)
    url = add_parameter(query.url(), CHANGED, value)
    if request.POST.get(PART) == "message":
        url = add_parameter(url, PART, "message")
    return HttpResponseRedirect(url, status=303)


def return_to_inbox(request: HttpRequest, changed: str | tuple[str, PageButton]) -> HttpResponse | None:
    """Return to the inbox whose form has sent this request, with a message; None if another page has sent it.

    ``changed``
        ``"undone"``, or the message of the app with the button that undoes what was done.
    """
    if (query := request.POST.get("query")) is None:
        return None
    return redirect(request, parse_query(QueryDict(query)), changed)


def _parse_uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise BadRequest("An id must be a UUID.") from exc


def _refuse_change() -> Problem:
    text = gettext("Earlier changes continue in the background. Go back, wait a moment, and try again.")
    return Problem(429, text, headers={"Retry-After": str(PENDING_RETRY_SECONDS)})
