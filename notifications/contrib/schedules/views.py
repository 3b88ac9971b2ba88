"""The page on which users choose what is done for them periodically, and see, pause and delete it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST

from notifications.contrib.schedules import operating
from notifications.contrib.schedules.api import cancel_schedule, schedule
from notifications.contrib.schedules.errors import TooManySchedules
from notifications.contrib.schedules.forms import OfferForm
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.offers import find_offers, read_settings
from notifications.contrib.schedules.stored import (
    OWNER_ZONE,
    isolate,
    read_declarations,
    read_zone,
    stored_schedules,
)
from notifications.contrib.schedules.texts import (
    describe_moment,
    describe_pause,
    describe_timing,
    list_next_ticks,
    place_of,
)
from notifications.contrib.schedules.timing import Timing
from notifications.db import database_now
from notifications.http import page_view, paginate

#: The parameter of a signed message.
SAID = "said"


@page_view
@require_http_methods(["GET", "HEAD", "POST"])
def schedules_page(request: HttpRequest) -> HttpResponse:
    """List the schedules of the user; with POST, store one of an offer."""
    if read_settings().offers is None:
        raise Http404("USER_SCHEDULES has no offers.")
    form = OfferForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and (response := _create(request, form)):
        return response
    user = request.user.pk
    zone = isolate([str(user)], partial(read_zone, user), "Could not read the time zone of a user: %s")
    page = paginate(request, stored_schedules().filter(user=user), ("created_at", "name"))
    declarations = read_declarations(page.rows)
    context = {
        "form": form if form.fields["offer"].choices else None,  # type: ignore[attr-defined]
        "schedules": [_describe(row, declarations.get(row.name)) for row in page.rows],
        "links": page.links,
        "place": place_of(zone or ""),
        "message": _read_message(request),
    }
    return render(request, "notifications/schedules_page.html", context, status=422 if form.errors else 200)


@page_view
@require_POST
def change(request: HttpRequest, name: str) -> HttpResponse:
    """Pause, resume or delete a schedule of the user."""
    row = stored_schedules().filter(name=name, user=request.user.pk).first()
    if row is None or read_settings().offers is None:
        raise Http404("There is no such schedule.")
    match request.POST.get("verb"):
        case "pause":
            operating.pause([name])
            return _return(request, gettext("“%(title)s” is paused.") % {"title": row})
        case "resume":
            operating.resume([name])
            return _return(request, gettext("“%(title)s” is resumed.") % {"title": row})
        case "delete":
            cancel_schedule(row)
            return _return(request, gettext("“%(title)s” is deleted.") % {"title": row})
    raise Http404("There is no such verb.")


def _create(request: HttpRequest, form: OfferForm) -> HttpResponse | None:
    chosen = form.cleaned_data["offer"]
    offer = find_offers()[chosen]
    title = str(offer["title"])

    def make() -> Schedule | None:
        try:
            return schedule(
                offer["task"],
                offer.get("args", ()),
                offer.get("kwargs", {}),
                cron=form.cron,
                owner=request.user,
                zone=OWNER_ZONE,
                title=title,
                key=f"{chosen} {form.cron}",  # a form that is sent twice makes one schedule
                queue=offer.get("queue", ""),
            )
        except TooManySchedules as exc:
            form.add_error(None, str(exc))
            return None

    # Code of the project may fail: the task, and what knows the time zone of the user.
    row = isolate([chosen], make, "Could not schedule an offer: %s")
    if row is None:
        if not form.errors:
            form.add_error(None, gettext("This cannot be scheduled now. Choose something else."))
        return None
    if row.paused_at:
        operating.resume([row.name])
    [when] = list_next_ticks(Timing.of_text(row.timing), database_now(), 1)
    text = gettext("“%(title)s” is scheduled. It runs next on %(when)s.")
    return _return(request, text % {"title": title, "when": when})


def _describe(row: Schedule, declaration: Any) -> dict[str, Any]:
    if declaration is None:
        state = gettext("It cannot be read. Delete it, and make it anew.")
        return {"row": row, "state": state, "is_failing": True}
    is_failing = row.problem in (Schedule.Problem.FAILED, Schedule.Problem.GIVEN_UP)
    state = gettext("The last run has failed") if is_failing else ""
    is_running = row.paused_at is None and row.next_tick
    return {
        "row": row,
        "timing": describe_timing(declaration.timing),
        "next": describe_moment(row.next_tick, declaration.timing) if is_running else "",
        "state": describe_pause(row) if row.paused_at else state,
        "is_failing": is_failing,
    }


def _return(request: HttpRequest, message: str) -> HttpResponse:
    """Return to the page with a message."""
    said = signing.dumps(message, salt=f"{SAID}{request.user.pk}", compress=True)
    response = HttpResponseRedirect(f"{reverse('notifications:schedules')}?{urlencode({SAID: said})}")
    response.status_code = 303
    return response


def _read_message(request: HttpRequest) -> str:
    with suppress(signing.BadSignature, ValueError):
        return str(signing.loads(request.GET.get(SAID, ""), salt=f"{SAID}{request.user.pk}"))
    return ""
