"""The page that asks to confirm an action of a notification, or to send it again."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_http_methods

from notifications.db.transactions import database
from notifications.http.access import page_view
from notifications.inbox.actions import DONE, SENT, find_done, read_actions, record_done, record_sent
from notifications.models import Notification
from notifications.streams.positions import read_stream_position


@page_view
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_action(request: HttpRequest, id: UUID, number: int) -> HttpResponse:
    """Ask the user to confirm an action of a notification that posts, with the form that does, unless one was done.

    A POST stores that it was done, which the script of the page sends when the view of the project has said so. That of
    the form stores that it is sent, and leads the browser on to that view, with its method and its body.
    """
    is_form = "form" in request.POST
    if request.method == "POST" and not is_form and record_done(request.user.pk, id, number):
        return HttpResponse(status=204)
    row = Notification.objects.using(database()).filter(pk=id, user=request.user.pk).first()
    actions = read_actions(row) if row else []
    if row is None or number >= len(actions) or "post" not in actions[number]:
        raise Http404("The action does not exist.")
    if is_form and record_sent(request.user.pk, id, number, request.POST.get("again", "")):
        return HttpResponseRedirect(actions[number]["post"], preserve_request=True)
    done, sent = find_done(actions), actions[number].get(SENT)
    context = {
        "notifications_position": read_stream_position(request.user.pk),
        "row": row,
        "action": actions[number],
        "number": number,
        "done": done,
        "done_at": done and parse_datetime(done[DONE]),
        "sent": sent,
        "sent_at": sent and parse_datetime(sent),
    }
    status = 409 if request.method == "POST" else 200
    return render(request, "notifications/confirm_action.html", context, status=status)
