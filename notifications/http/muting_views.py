"""The page of muted categories, and the forms that mute and unmute one."""

from __future__ import annotations

from urllib.parse import urlencode

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from notifications import validators
from notifications.http.page_views import page_view, text_response
from notifications.streams import muting, pages


@page_view
@require_safe
def muted(request: HttpRequest) -> HttpResponse:
    """List the categories that the user has muted."""
    user = request.user.pk
    context = {
        "notifications_position": pages.read_stream_position(user),
        "categories": muting.muted_categories(user),
        "unmuted": request.GET.get("unmuted", "")[: validators.MAX_CATEGORY_LENGTH],
    }
    return render(request, "notifications/muted.html", context)


@page_view
@require_POST
def mute(request: HttpRequest) -> HttpResponse:
    """Mute the ``category`` of the form, and show the list."""
    category = _parse_category(request)
    try:
        muting.mute(request.user.pk, category)
    except muting.TooManyMutedCategories:
        return text_response(
            gettext("You have muted too many categories. Go back, and unmute one of them first."), status=409
        )
    return HttpResponseRedirect(reverse("notifications:muted"), status=303)


@page_view
@require_POST
def unmute(request: HttpRequest) -> HttpResponse:
    """Unmute the ``category`` of the form, and show the list."""
    category = _parse_category(request)
    muting.unmute(request.user.pk, category)
    query = urlencode({"unmuted": category})
    return HttpResponseRedirect(f"{reverse('notifications:muted')}?{query}", status=303)


def _parse_category(request: HttpRequest) -> str:
    try:
        return validators.text(
            "category", request.POST.get("category", ""), validators.MAX_CATEGORY_LENGTH, required=True
        )
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
