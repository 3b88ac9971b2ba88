"""The pages of the inbox: its list, one notification, a job, and the confirmation of an action."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_safe

from notifications.db.transactions import database
from notifications.extension import PageButton, hooks
from notifications.http.access import page_view
from notifications.http.page_views import describe_job, find_end, get_job, read_batch, timeline_part
from notifications.inbox import lists
from notifications.inbox.categories import load_categories
from notifications.inbox.query import (
    CHANGED,
    NOTHING_SELECTED,
    PART,
    SAID,
    SELECTED,
    SNOOZE,
    TOO_MANY_VIEWS,
    UNDONE,
    VIEWS,
    WRONG_TIME,
    InboxQuery,
    RowsChanged,
    add_parameter,
    describe_change,
    describe_wrong_time,
    encode,
    parse_change,
    parse_query,
    said_salt,
)
from notifications.inbox.rows import InboxRow, make_sections, read_rows
from notifications.inbox.saved_views import MAX_NAME_LENGTH, MAX_VIEWS, SavedView, key_of
from notifications.inbox.timeline import read_timeline
from notifications.jobs.outcomes import end_key
from notifications.models import Job, Notification, Wait
from notifications.models.streams import NotificationLevel
from notifications.paths import localize_link
from notifications.serializers import read_data
from notifications.streams import grouping, listing
from notifications.streams.listing import read_numbered_position

#: Open questions above the list, as in the bell.
MAX_WAITING = 3
#: Until when a notification is snoozed, besides a time that is chosen.
SNOOZE_TIMES = {
    "hours": gettext_lazy("In 3 hours"),
    "tomorrow": gettext_lazy("Tomorrow, 08:00"),
    "monday": gettext_lazy("Monday, 08:00"),
}


@page_view
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's notifications, newest first: of a view, filtered, or those that a search finds."""
    user = request.user.pk
    query = parse_query(request.GET)
    part = request.GET.get(PART)
    if part == "message":
        context = {**_describe_change(request, query.view), "query_string": encode(query)}
        return render(request, "notifications/inbox_message.html", context)
    state = lists.read_state(user, VIEWS[query.view])
    position = state.position
    saved = [SavedView(*view) for view in state.saved_views]
    of_views = {
        "views": _describe_views(state.counts, query.view),
        "saved_views": saved,
        "query": query,
        **_describe_saved(saved, query),
    }
    if part == "views":
        context = {**of_views, "rows": _read_group(request.user, position.seq, query)}
        return render(request, "notifications/inbox_part.html", context)
    page = lists.read_inbox_page(user, position.seq, query.after, before=query.before, filters=query.filters)
    waiting, failed = [], []
    if position.questions and query in (InboxQuery(), InboxQuery(view="unread")):
        waiting = lists.read_waiting(user, position.seq, MAX_WAITING)
    if query.group:
        if query == InboxQuery(view=query.view, group=query.group):
            failed = lists.read_failed(user, position.seq, query.filters)
        titles = [row.group.title for row in _read_group(request.user, position.seq, query) if row.group]
        query = replace(query, group_title="".join(titles))
    total = ""
    is_whole = page.after is None and page.before is None
    if query.view == "inbox" and query.is_filtered and not query.search and not is_whole:
        total = lists.describe_total(user, head=position.seq, filters=query.filters)
    url = query.url()
    context = {
        "notifications_position": position,
        "page_links": [link for hook in hooks.page_links for link in hook("inbox")],
        "has_inbox": True,  # {% notifications %} preloads its modules
        **of_views,
        "query": query,  # with the title of its group
        "snooze_times": SNOOZE_TIMES,
        "query_string": encode(query),
        "categories": load_categories().sort_by_name({*state.categories, *query.categories}),
        "is_page_selected": SELECTED in request.GET,
        "is_all_selected": request.GET.get(SELECTED) == "all" and bool(total),
        "selected_url": add_parameter(url, SELECTED, "page"),
        "all_selected_url": add_parameter(url, SELECTED, "all"),
        "total": total,
        "mark_all_url": reverse(
            "notifications:inbox-mark-filter" if query.has_fields else "notifications:inbox-mark"
        ),
        "total_label": _describe_all(total, query),
        "unselected_url": url,
        "levels": NotificationLevel.choices,
        "ungrouped_url": query.url(group="", after=None, before=None),
        "unfiltered_url": InboxQuery(view=query.view).url(),
        "page": page,
        "sections": make_sections(request.user, page.rows, page.groups, query, waiting, failed),
        "questions_url": InboxQuery(view="questions").url() if position.questions > len(waiting) else "",
        "older_url": None if page.after is None else query.url(after=page.after, before=None),
        "newer_url": None if page.before is None else query.url(after=None, before=page.before),
        "newest_url": query.url(after=None, before=None),
        "searched": listing.MAX_ROWS_SEARCHED,
        "is_being_read": state.pending == 2,
        "is_being_changed": bool(state.pending),
        **_describe_change(request, query.view),
    }
    return render(request, "notifications/inbox.html", context)


@page_view
@require_safe
def detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a notification of the user with its whole text and its job, and why the user was notified of it, or was not.

    With ``part=pane`` the response is the content of the page for the reading pane of the inbox, without the layout.
    That of an open question is where it is answered: the page that its notification links to.
    """
    user = request.user.pk
    position = read_numbered_position(user)
    row = Notification.objects.using(database()).filter(pk=id, user=user).first()
    if row is None:
        raise Http404("The notification does not exist.")
    in_pane = request.GET.get(PART) == "pane"
    (item,) = read_rows(request.user, [row], place="page")
    # There are no facts for who may not answer any more.
    if row.open_question and row.url and item.facts and not in_pane:
        return HttpResponseRedirect(localize_link(row.url))
    context = {
        "notifications_position": position,
        "in_pane": in_pane,
        "layout": "notifications/pane.html" if in_pane else None,
        "facts": item.facts,
        **describe_notification(row, request, item),
    }
    return render(request, "notifications/notification.html", context)


def describe_notification(
    row: Notification, request: HttpRequest, item: InboxRow | None = None
) -> dict[str, Any]:
    """Return what pages show of a notification of the user, and of its job if it is theirs, but for ``facts``."""
    user = request.user.pk
    job = None
    if isinstance(row.job, UUID):
        job = Job.objects.using(database()).filter(pk=row.job, user=user).first()
    item = item or read_rows(request.user, [row])[0]
    question = read_data(row).get("question")
    ended = question.get("ended") if isinstance(question, dict) else None
    context = {
        "row": row,
        "item": item,
        "body": row.body,
        "is_body_shown": True,
        # The page of a question that has ended leads to this one.
        "has_link": not ended and row.url not in {action.href for action in item.actions},
        "events": read_timeline(row, for_user=True),
        "page_links": [link for hook in hooks.page_links for link in hook("notification")],
        "snooze_times": SNOOZE_TIMES,
    }
    if job:
        is_end = job.done and row.key == end_key(job.pk)
        end = row if is_end else find_end(job)
        of_job = describe_job(job, request, end, in_pane=True, question_page=row.url or "")
        outcome = of_job["outcome"]
        if isinstance(ended, dict) and not is_end:  # the data may be that of a project
            said, _, rest = row.body.partition("\n")
            if job.state == Job.State.CANCELLED and ended.get("how") == Wait.How.CANCELLED:
                context["body"] = rest  # that the job was cancelled is in its line
            elif _is_said(outcome, job, said, str(ended.get("label") or "")):
                of_job |= {"outcome": gettext("Finished"), "level": "info"}
        context |= {
            "has_job": True,
            "is_end": is_end,
            "is_outcome_said": is_end and outcome in (row.title, row.body),
            # The default body says less than the state and the reason.
            "is_body_shown": row.body == outcome if is_end else row.body != job.title,
            **of_job,
        }
    return context


def _is_said(outcome: str, job: Job, said: str, answer: str) -> bool:
    """Return whether the outcome of a job is only the answer to its question, which the row of the question has.

    That may have it in another language: of who has answered, not of the job.
    """
    with translation.override(job.language or None):
        is_default = outcome.startswith(gettext("Finished."))
    return is_default and any(text and text in outcome for text in (said, answer))


@page_view
@require_safe
def job_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show the progress of a job of the user, or what came of it.

    That of a job without an owner is shown by its batch, which pushes it.
    """
    if request.GET.get(PART) == "timeline":
        return timeline_part(get_job(request, id), request)
    position = read_numbered_position(request.user.pk)
    job = get_job(request, id)
    if job.user_id is None and not job.done:
        return HttpResponseRedirect(reverse("notifications:job", args=[job.batch]))
    end = find_end(job)
    of_job = describe_job(job, request, end)
    shown = of_job["timeline"].events if of_job["timeline"].is_telling else []
    context = {
        "notifications_position": position,
        "has_job": True,  # {% notifications %} preloads the modules of <notifications-job>
        "events": [event for event in read_timeline(end, for_user=True) if event not in shown] if end else [],
        "parent": read_batch(request, job),
        **of_job,
    }
    return render(request, "notifications/job.html", context)


def _describe_views(counts: Mapping[str, int], view: str) -> list[tuple[str, str, str, str]]:
    """Return the name, label, URL and count of each view.

    Questions and what is snoozed have a view while there are any, or while it is shown.
    """
    labels = {
        "inbox": gettext("Inbox"),
        "unread": gettext("Unread"),
        "questions": gettext("Questions"),
        "snoozed": gettext("Snoozed"),
        "done": gettext("Done"),
    }
    views = []
    for name, label in labels.items():
        count = counts[name]
        if count or name == view or name not in ("questions", "snoozed"):
            shown = f"{lists.MAX_COUNT}+" if count > lists.MAX_COUNT else str(count or "")
            views.append((name, label, InboxQuery(view=name).url(), shown))
    return views


def _describe_saved(views: list[SavedView], query: InboxQuery) -> dict[str, Any]:
    """Return whether the list of the page can be a view, and which of the saved ones it is."""
    key = key_of(query) if query.has_fields else ""
    shown = next((view for view in views if view.query == key), None)
    label = gettext("Edit view") if shown else gettext("Save view")
    return {
        "can_save_view": bool(key),
        "saved_view": shown,
        "view_label": label,
        "max_view_name": MAX_NAME_LENGTH,
    }


def _describe_all(total: str, query: InboxQuery) -> str:
    """Return the text of the button that selects all that a list has, on all of its pages."""
    names = [query.group_label] if query.group else []
    if query.categories:
        names.append(query.category_label)
    if not names or query.is_except:
        return gettext("Select all %(count)s") % {"count": total}
    return gettext("Select all %(count)s in %(name)s") % {"count": total, "name": ", ".join(names)}


def _read_group(user: Any, head: int, query: InboxQuery) -> list[InboxRow]:
    if not query.group:
        return []
    group, newest = grouping.read_group(user.pk, query.group, head=head, filters=VIEWS[query.view])
    return read_rows(user, [newest], {newest.pk: group}, replace(query, group="")) if newest else []


def _describe_change(request: HttpRequest, view: str) -> dict[str, Any]:
    """Return the message about the last change, and the change itself if it can be undone."""
    text = request.GET.get(CHANGED, "")
    if text == NOTHING_SELECTED:
        return {"message": gettext("Select notifications first.")}
    if text == WRONG_TIME:
        return {"message": describe_wrong_time()}
    if text == TOO_MANY_VIEWS:
        return {"message": gettext("You have %(count)d views. Delete one first.") % {"count": MAX_VIEWS}}
    if text == UNDONE:
        return {"message": gettext("Undone.")}
    if text.startswith(SAID):
        with suppress(signing.BadSignature):
            message, *undo = signing.loads(text.removeprefix(SAID), salt=said_salt(request.user.pk))
            return {"message": message, "undo": PageButton(*undo)}
    change = parse_change(text)
    if change is None:
        return {}
    # To archive again what was snoozed would not snooze it.
    can_undo = (change.count > 0 or change.is_pending) and view != "snoozed"
    until = None
    if change.verb == SNOOZE and isinstance(change, RowsChanged):
        rows = Notification.objects.using(database()).filter(pk__in=change.ids, user=request.user.pk)
        until = rows.values_list("snoozed_until", flat=True).first()
    return {"message": describe_change(change, until), "undoable": text if can_undo else ""}
