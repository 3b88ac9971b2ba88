"""The inbox page and its forms, which work without JavaScript."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.http import inbox_changes, inbox_query
from notifications.http.browsers import describe_browser
from notifications.http.inbox_changes import MAX_IDS, AllChanged, Change, RowsChanged
from notifications.http.inbox_query import VIEWS, InboxQuery, parse_position
from notifications.http.inbox_rows import InboxRow, group_by_day, read_actions, read_rows
from notifications.http.page_views import describe_job, page_view, text_response
from notifications.http.parsing import header
from notifications.models import Job, Notification
from notifications.models.levels import NotificationLevel
from notifications.realtime.reader import number_if_needed
from notifications.streams import groups, listing, pages
from notifications.streams.categories import sort_by_name
from notifications.streams.marking import INVERSE_VERBS, VERBS, Mark, change_rows
from notifications.streams.marking_all import TooManyPendingMarks, mark_all, pending_marks, undo_mark
from notifications.streams.marking_seen import mark_seen
from notifications.streams.timeline import read_timeline

#: The parameters that describe the last change, and have all rows of the page selected.
CHANGED, SELECTED = "changed", "selected"
#: The parameter with which an inbox that is open loads its views again, for their counts, with the row of a group, the
#: content of its pane, and what a form has changed.
PART = "part"
#: The greatest count of a view that is shown.
MAX_COUNT = 99
#: Seconds after which a request that had too many changes in the background is worth another try.
PENDING_RETRY_SECONDS = 10


@page_view
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's notifications, newest first: of a view, filtered, or those that a search finds."""
    user = request.user.pk
    query = inbox_query.parse(request.GET)
    number_if_needed([user])
    position = pages.read_stream_position(user)
    views = _describe_views(user, position.seq, query.view)
    if request.GET.get(PART) == "views":
        context = {"views": views, "query": query, "rows": _read_group(user, position.seq, query)}
        return render(request, "notifications/inbox_part.html", context)
    change = _describe_change(user, request.GET.get(CHANGED, ""), query.view)
    if request.GET.get(PART) == "message":
        context = {**change, "query_string": inbox_query.encode(query)}
        return render(request, "notifications/inbox_message.html", context)
    page = pages.read_inbox_page(user, position.seq, query.after, before=query.before, filters=query.filters)
    pending = [mark for _, mark in pending_marks(user)]
    categories = listing.read_categories(user, below=position.seq + 1, filters=VIEWS[query.view])
    context = {
        "notifications_position": position,
        "page_links": [link for hook in hooks.page_links for link in hook("inbox")],
        "has_inbox": True,  # {% notifications %} preloads its modules
        "query": query,
        "snooze_times": inbox_changes.SNOOZE_TIMES,
        "query_string": inbox_query.encode(query),
        "views": views,
        "categories": sort_by_name({*categories, query.category} - {""}),
        "is_page_selected": SELECTED in request.GET,
        "selected_url": _add_parameter(query.url(), SELECTED, "page"),
        "unselected_url": query.url(),
        "levels": NotificationLevel.choices,
        "level_label": NotificationLevel(query.level).label if query.level else "",
        "unfiltered_url": InboxQuery(view=query.view).url(),
        "page": page,
        "days": group_by_day(page.rows, page.groups, query),
        "older_url": None if page.after is None else query.url(after=page.after, before=None),
        "newer_url": None if page.before is None else query.url(after=None, before=page.before),
        "newest_url": query.url(after=None, before=None),
        "searched": listing.MAX_ROWS_SEARCHED,
        "is_being_read": any(
            mark.verb == "read" and not mark.is_filtered and mark.group is None for mark in pending
        ),
        "is_being_changed": bool(pending),
        **change,
    }
    return render(request, "notifications/inbox.html", context)


@page_view
@require_safe
def detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a notification of the user with its whole text and its job, and why the user was notified of it, or was not.

    With ``part=pane`` the response is the content of the page for the reading pane of the inbox, without the layout.
    """
    user = request.user.pk
    number_if_needed([user])
    position = pages.read_stream_position(user)
    row = Notification.objects.using(database()).filter(pk=id, user=user).first()
    if row is None:
        raise Http404("The notification does not exist.")
    job = None
    if isinstance(row.job, UUID):
        job = Job.objects.using(database()).filter(pk=row.job, user=user).first()
    in_pane = request.GET.get(PART) == "pane"
    context = {
        "notifications_position": position,
        "in_pane": in_pane,
        "layout": "notifications/pane.html" if in_pane else None,
        "row": row,
        "item": read_rows([row])[0],
        "events": read_timeline(row, for_user=True),
        "page_links": [link for hook in hooks.page_links for link in hook("notification")],
        "snooze_times": inbox_changes.SNOOZE_TIMES,
    }
    if job:
        context |= {"has_job": True, **describe_job(job, request, in_pane=True)}
    return render(request, "notifications/notification.html", context)


@page_view
@require_POST
def mark(request: HttpRequest) -> HttpResponse:
    """Change notifications that were raised up to position ``up_to``, and return to the page of the form.

    ``one`` is a verb and an id; ``group`` a verb and a group; ``all`` a verb for all that the page's filters select;
    ``verb`` is for the ``id`` that are checked. ``seen`` is the newest one on the page with the form. Without
    JavaScript it is marked as seen here and not when the page is read, because a GET must not write: a prefetched or
    restored page may not have been seen.
    """
    user = request.user.pk
    query = inbox_query.parse(QueryDict(request.POST.get("query", "")))
    up_to = parse_position(request.POST.get("up_to", ""))
    seen = parse_position(request.POST.get("seen") or "0")
    verb, ids = request.POST.get("verb", ""), request.POST.getlist("id")
    change: Change | None = None
    if one := request.POST.get("one"):
        verb, _, id = one.partition(".")
        ids = [id]
    all_verb, listed = request.POST.get("all"), query
    if group := request.POST.get("group"):
        all_verb, _, key = group.partition(".")
        listed = inbox_query.parse(QueryDict(inbox_query.encode(replace(query, view="inbox", group=key))))
        if not listed.group:
            raise BadRequest("group must be a verb and a group of the inbox.")
    if all_verb:
        try:
            change = _mark_all(user, all_verb, up_to, listed)
        except TooManyPendingMarks:
            return _refuse_change()
    elif verb not in VERBS:
        raise BadRequest(f"verb must be one of {', '.join(VERBS)}.")
    elif ids:
        parsed = [parse_uuid(text) for text in ids[:MAX_IDS]]
        marked = change_rows(Mark(user=user, verb=verb, up_to=up_to, ids=parsed))
        change = RowsChanged(verb=verb, ids=tuple(marked.changed))
    mark_seen(user, seen, describe_browser(header(request, "User-Agent")))
    return redirect(request, query, inbox_changes.NOTHING_SELECTED if change is None else change.encode())


@page_view
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Undo the change that the form describes: exactly the notifications that it has changed are changed back."""
    user = request.user.pk
    query = inbox_query.parse(QueryDict(request.POST.get("query", "")))
    change = inbox_changes.parse(request.POST.get(CHANGED, ""))
    if change is None:
        raise BadRequest(
            "The change to undo is not valid. Open the inbox and change the notifications there."
        )
    if isinstance(change, AllChanged):
        try:
            undo_mark(user, change.verb, change.moment, change.after, change.up_to)
        except TooManyPendingMarks:
            return _refuse_change()
    else:
        up_to = pages.read_stream_position(user).seq
        change_rows(
            Mark(user=user, verb=INVERSE_VERBS.get(change.verb, "unarchive"), up_to=up_to, ids=change.ids)
        )
    return redirect(request, query, inbox_changes.UNDONE)


@page_view
@require_safe
def confirm_action(request: HttpRequest, id: UUID, number: int) -> HttpResponse:
    """Ask the user to confirm an action of a notification that posts, with the form that does."""
    row = Notification.objects.using(database()).filter(pk=id, user=request.user.pk).first()
    actions = read_actions(row) if row else []
    if row is None or number >= len(actions) or "post" not in actions[number]:
        raise Http404("The action does not exist.")
    context = {
        "notifications_position": pages.read_stream_position(request.user.pk),
        "row": row,
        "action": actions[number],
    }
    return render(request, "notifications/confirm_action.html", context)


def _describe_views(user: Any, head: int, view: str) -> list[tuple[str, str, str, str]]:
    """Return the name, label, URL and count of each view. What is done is not counted: nothing is left to do there.

    Questions and what is snoozed have a view while there are any, or while it is shown.
    """
    labels = {
        "inbox": gettext("Inbox"),
        "unread": gettext("Unread"),
        "questions": gettext("Questions"),
        "snoozed": gettext("Snoozed"),
        "done": gettext("Done"),
    }
    counts = {
        name: listing.count(user, MAX_COUNT + 1, head=head, filters=VIEWS[name])
        for name in ("inbox", "unread", "questions", "snoozed")
    }
    for name in ("questions", "snoozed"):
        if not counts[name] and view != name:
            del labels[name]
    return [
        (name, label, InboxQuery(view=name).url(), _format_count(counts.get(name, 0)))
        for name, label in labels.items()
    ]


def _read_group(user: Any, head: int, query: InboxQuery) -> list[InboxRow]:
    """Return the row of the group that a query lists, none without a group or if nothing of it is left."""
    if not query.group:
        return []
    group, newest = groups.read_group(user, query.group, head=head, filters=VIEWS[query.view])
    return read_rows([newest], {newest.pk: group}, replace(query, group="")) if newest else []


def _format_count(count: int) -> str:
    return f"{MAX_COUNT}+" if count > MAX_COUNT else str(count or "")


def _mark_all(user: Any, verb: str, up_to: int, query: InboxQuery) -> AllChanged:
    """Change all that the page lists, on all of its pages. Raises BadRequest and ``TooManyPendingMarks``."""
    is_possible = (verb == "read" and query.view in ("inbox", "unread")) or (
        verb == "archive" and query.view == "inbox"
    )
    if not is_possible or query.search:
        raise BadRequest(
            "all must be read, or archive in the inbox, and without a search. Select notifications instead."
        )
    marked = mark_all(
        user,
        verb,
        up_to,
        group=query.group or None,
        category=query.category or None,
        level=query.level,
    )
    return AllChanged(
        verb=verb,
        count=len(marked.changed),
        moment=marked.moment,
        after=marked.after,
        up_to=up_to,
        is_pending=marked.next is not None,
    )


def _describe_change(user: Any, text: str, view: str) -> dict[str, Any]:
    """Return the message about the last change, and the change itself if it can be undone."""
    if text == inbox_changes.NOTHING_SELECTED:
        return {"message": gettext("Select notifications first.")}
    if text == inbox_changes.WRONG_TIME:
        return {"message": inbox_changes.describe_wrong_time()}
    if text == inbox_changes.UNDONE:
        return {"message": gettext("Undone.")}
    for hook in hooks.describe_change:
        if described := hook(user, text):
            return {"message": described[0], "undo": described[1]}
    change = inbox_changes.parse(text)
    if change is None:
        return {}
    # To archive again what was snoozed would not snooze it.
    can_undo = (change.count > 0 or change.is_pending) and view != "snoozed"
    return {"message": inbox_changes.describe(change), "undoable": text if can_undo else ""}


def redirect(request: HttpRequest, query: InboxQuery, changed: str) -> HttpResponse:
    """Return to the page of a form, or to the message about its change only if an open inbox has sent the form."""
    url = _add_parameter(query.url(), CHANGED, changed)
    if request.POST.get(PART) == "message":
        url = _add_parameter(url, PART, "message")
    return HttpResponseRedirect(url, status=303)


def _add_parameter(url: str, name: str, value: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{name}={value}"


def parse_uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise BadRequest("An id must be a UUID.") from exc


def _refuse_change() -> HttpResponse:
    return text_response(
        gettext("Earlier changes continue in the background. Go back, wait a moment, and try again."),
        status=429,
        retry_after=PENDING_RETRY_SECONDS,
    )
