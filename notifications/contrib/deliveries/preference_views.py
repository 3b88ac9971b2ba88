"""The page of preferences, and how a category is muted: the button and the message in the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings as django_settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.formats import date_format, time_format
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST

from notifications import times, validators
from notifications.conf import settings
from notifications.contrib.deliveries import preferences, push_views
from notifications.contrib.deliveries.categories import find_category
from notifications.contrib.deliveries.channels import label_of
from notifications.contrib.deliveries.models import Reader
from notifications.contrib.deliveries.preference_rows import (
    find_dead_addresses,
    has_other_channels,
    read_rows,
    shown_channels,
)
from notifications.contrib.deliveries.pushes import read_public_key
from notifications.contrib.deliveries.quiet_hours import DAYS_PER_WEEK, place_of, zone_names, zone_of
from notifications.extension import PageButton, hooks
from notifications.http import Problem, page_view
from notifications.inbox import load_categories, return_to_inbox
from notifications.models import Notification

#: Rows of the form that are read, more than the page has.
MAX_ROWS = 1000
#: For how many hours the page offers to pause.
PAUSE_HOURS = (1, 8, 24, 24 * 7)
MONDAY = date(2024, 1, 1)
#: For how many days the page offers to switch a category off.
OFF_DAYS = (1, 7, 30)
#: Quiet hours that the page suggests.
NIGHT = ("22:00", "07:00")
#: What the page says after a form of it, by the parameter of the query string that names a category, or is ``1``.
MESSAGES = ("muted", "unmuted", "saved")


@page_view
@require_http_methods(["GET", "HEAD", "POST"])
def preferences_page(request: HttpRequest) -> HttpResponse:
    """Show by which channels the user is notified of each category, or store the form that the page has."""
    if request.method == "POST":
        return _save(request)
    user = request.user.pk
    reader = preferences.read_reader(user)
    is_paused = preferences.is_paused(reader, times.now())
    context = {
        "has_preferences": True,  # {% notifications %} preloads its script
        "rows": read_rows(user),
        "channels": [(channel, label_of(channel)) for channel in shown_channels()],
        "has_other_channels": has_other_channels(),
        "links": [link for hook in hooks.page_links for link in hook("preferences")],
        "reader": reader,
        "paused_until": reader.paused_until if is_paused else None,
        "off_days": [(days, _off_label(days)) for days in OFF_DAYS],
        "quiet_hours": _describe_quiet_hours(reader),
        "night": [time.fromisoformat(each) for each in NIGHT],
        "devices": push_views.read_devices(user) if _has_devices() else None,
        "has_devices": _has_devices(),
        "pauses": [(hours, _pause_label(hours)) for hours in PAUSE_HOURS],
        "hours": [(hour, time_format(time(hour), "TIME_FORMAT")) for hour in range(24)],
        "days": [(day, date_format(MONDAY + timedelta(days=day), "l")) for day in range(7)],
        "time_zones": _offered_time_zones(reader.time_zone),
        "site_time_zone": django_settings.TIME_ZONE,
        "place": place_of(str(zone_of(reader))),
        "dead_addresses": find_dead_addresses(request.user, reader),
        **{name: request.GET.get(name, "")[: validators.MAX_NAME_LENGTH] for name in MESSAGES},
    }
    return render(request, "notifications/preferences.html", context)


def _save(request: HttpRequest) -> HttpResponse:
    user, form = request.user.pk, request.POST
    try:
        if "pause" in form:
            hours = form["pause"]
            until = times.now() + timedelta(hours=int(hours)) if hours in map(str, PAUSE_HOURS) else None
            preferences.change_reader(user, paused_until=until)
        elif "revive" in form:
            preferences.remember_dead_address(user, form["revive"], None)
        else:
            changes = {}
            for number, key in enumerate(form.getlist("category")[:MAX_ROWS]):
                key = validators.text("category", key, validators.MAX_NAME_LENGTH)
                for channel in shown_channels():
                    if (choice := form.get(f"{channel}.{number}")) is not None:
                        changes[key, channel] = choice
            preferences.choose(user, changes)
            values: dict[str, Any] = {
                name: _parse_digit(form[name]) for name in ("digest_hour", "digest_day") if name in form
            }
            if "time_zone" in form:
                values["time_zone"] = form["time_zone"]
            if "nights" in form:
                values["quiet_hours"] = [list(NIGHT)] * DAYS_PER_WEEK
            elif "quiet" in form:
                values["quiet_hours"] = _parse_quiet_hours(form)
            if values:
                preferences.change_reader(user, **values)
            if "off" in form or "on" in form:
                return _switch(request)
    except preferences.TooManyPreferences as exc:
        raise _too_many() from exc
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    return _redirect(saved="1")


def _switch(request: HttpRequest) -> HttpResponse:
    """Switch the category of a row of the form off for some days, "7.0" for the first row, or on again, "0"."""
    form, user = request.POST, request.user.pk
    days, _, number = form["off"].partition(".") if "off" in form else ("", "", form["on"])
    keys = form.getlist("category")
    if ("off" in form and days not in map(str, OFF_DAYS)) or number not in map(str, range(len(keys))):
        raise BadRequest("There is no such category in the form.")
    key = validators.text("category", keys[int(number)], validators.MAX_NAME_LENGTH, required=True)
    if "on" in form:
        preferences.unmute(user, key)
        return _redirect(saved="1")
    if find_category(key).is_required:
        raise Problem(409, gettext("This category cannot be switched off. Go back."))
    preferences.mute(user, key, until=times.now() + timedelta(days=int(days)))
    return _redirect(muted=key)


def _has_devices() -> bool:
    return bool(settings.WEB_PUSH) and "push" in shown_channels()


def _describe_quiet_hours(reader: Reader) -> list[tuple[int, str, bool, str, str]]:
    """Return of each day its number, its name, whether it has quiet hours, and their times, or those of a night."""
    week = reader.quiet_hours or [None] * DAYS_PER_WEEK
    return [
        (day, date_format(MONDAY + timedelta(days=day), "l"), bool(hours), *(hours or NIGHT))
        for day, hours in enumerate(week)
    ]


def _parse_quiet_hours(form: QueryDict) -> list[list[str] | None] | None:
    week = [
        [form.get(f"quiet_from.{day}", "")[:5], form.get(f"quiet_to.{day}", "")[:5]]
        if form.get(f"quiet_on.{day}") == "on"
        else None
        for day in range(DAYS_PER_WEEK)
    ]
    return week if any(week) else None


def _off_label(days: int) -> str:
    return {1: gettext("For a day"), 7: gettext("For a week"), 30: gettext("For a month")}[days]


def _parse_digit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise ValueError(f"{text[:20]!r} is not a number of an hour or a day.")
    return int(text)


@page_view
@require_POST
def mute(request: HttpRequest) -> HttpResponse:
    """Mute the ``category`` of the form, and return to the inbox that sent it, or show the preferences."""
    category = _parse_category(request)
    if find_category(category).is_required:
        raise Problem(409, gettext("This category cannot be switched off. Go back."))
    try:
        preferences.mute(request.user.pk, category)
    except preferences.TooManyPreferences as exc:
        raise _too_many() from exc
    return return_to_inbox(request, _describe_muting(category)) or _redirect(muted=category)


@page_view
@require_POST
def unmute(request: HttpRequest) -> HttpResponse:
    """Unmute the ``category`` of the form, and return to the inbox that sent it, or show the preferences."""
    category = _parse_category(request)
    preferences.unmute(request.user.pk, category)
    return return_to_inbox(request, "undone") or _redirect(unmuted=category)


def _redirect(**query: str) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('notifications:preferences')}?{urlencode(query)}", status=303)


def _too_many() -> Problem:
    text = gettext(
        "You have preferences for too many categories. Go back, and set some of them to their defaults."
    )
    return Problem(409, text)


def _parse_category(request: HttpRequest) -> str:
    try:
        return validators.text(
            "category", request.POST.get("category", ""), validators.MAX_NAME_LENGTH, required=True
        )
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc


def list_links(page: str) -> list[tuple[str, str]]:
    """Return the label and address of each link of a page. See ``Extension.page_links()``."""
    devices = [(gettext("Devices for push"), reverse("notifications:devices"))] if settings.WEB_PUSH else []
    if page == "preferences":
        return [] if _has_devices() else devices  # the page has the list itself
    preferences = gettext("Preferences"), reverse("notifications:preferences")
    return [*(devices if page == "inbox" else ()), preferences]


def describe_key() -> dict[str, Any]:
    """Return what ``push_key.js`` needs: the public key of the site, and the scope of the service worker."""
    key = settings.WEB_PUSH and read_public_key()
    return {"push": {"key": key, "scope": reverse("notifications:devices")}} if key else {}


def list_buttons(rows: Sequence[Notification], reader: Any, place: str) -> dict[UUID, list[PageButton]]:
    """Return the buttons that mute the categories of notifications, but those that are required.

    See ``Extension.parts_of()``.
    """
    if place not in ("list", "page"):
        return {}
    categories, url = load_categories(), reverse("notifications:mute")
    label = gettext("Mute “%(category)s”")
    return {
        row.pk: [
            PageButton(
                label % {"category": categories.name(row.category)}, "mute", url, "category", row.category
            )
        ]
        for row in rows
        if row.category not in categories.declared or not find_category(row.category).is_required
    }


def _describe_muting(category: str) -> tuple[str, PageButton]:
    """Return the message after a category was muted, and the button that undoes it."""
    text = gettext("“%(muted)s” is muted. Its notifications are kept in your inbox as read.")
    undo = PageButton(gettext("Undo"), "", reverse("notifications:unmute"), "category", category)
    return text % {"muted": find_category(category).name}, undo


def _offered_time_zones(chosen: str) -> list[str]:
    offered = {zone for zone in zone_names() if "/" in zone and not zone.startswith("Etc/")}
    return sorted(offered | set(filter(None, [chosen])))


def _pause_label(hours: int) -> str:
    labels = {
        1: gettext("For an hour"),
        8: gettext("For 8 hours"),
        24: gettext("For a day"),
        24 * 7: gettext("For a week"),
    }
    return labels[hours]
