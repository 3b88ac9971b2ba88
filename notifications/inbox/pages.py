"""The pages beside the inbox: of one notification and of a job."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.http.access import page_view
from notifications.http.page_views import describe_job, find_end, get_job, read_batch, timeline_part
from notifications.inbox.changes import SNOOZE_TIMES
from notifications.inbox.query import PART
from notifications.inbox.rows import InboxRow, read_rows
from notifications.inbox.timeline import read_timeline
from notifications.jobs.outcomes import end_key
from notifications.models import Job, Notification, Wait
from notifications.paths import localize_link
from notifications.serializers import read_data
from notifications.streams.listing import read_numbered_position


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
