"""The page and the API of preferences, and how a category is muted: the button and the message in the inbox."""

from __future__ import annotations

from datetime import UTC, date, time, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings as django_settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, time_format
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST

from notifications import times, validators
from notifications.contrib.deliveries import preferences
from notifications.contrib.deliveries.preference_rows import (
    find_dead_addresses,
    has_other_channels,
    read_rows,
    shown_channels,
)
from notifications.extension import PageButton, find_channel, hooks
from notifications.http.access import api_view, json_response, page_view, text_response
from notifications.http.parsing import parse_integer, parse_json_object
from notifications.inbox.categories import label_of, load_categories
from notifications.inbox.forms import redirect
from notifications.inbox.query import UNDONE, parse_query
from notifications.models import Notification
from notifications.problems import Problem
from notifications.streams import positions

#: Rows of the form that are read, more than the page has.
MAX_ROWS = 1000
#: For how many hours the page offers to pause.
PAUSE_HOURS = (1, 8, 24, 24 * 7)
#: What the page says after a form of it, by the parameter of the query string that names a category, or is ``1``.
MESSAGES = ("muted", "unmuted", "saved")
#: What a change of the inbox begins with after a category was muted, whose name follows.
MUTED = "muted."


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
        "notifications_position": positions.read_stream_position(user),
        "rows": read_rows(user),
        "channels": [(channel, label_of(channel)) for channel in shown_channels()],
        "has_other_channels": has_other_channels(),
        "links": list_channel_links(),
        "reader": reader,
        "paused_until": reader.paused_until if is_paused else None,
        "pauses": [(hours, _pause_label(hours)) for hours in PAUSE_HOURS],
        "hours": [(hour, time_format(time(hour), "TIME_FORMAT")) for hour in range(24)],
        # The first day of 2024 was a Monday.
        "days": [(day, date_format(date(2024, 1, 1 + day), "l")) for day in range(7)],
        "time_zones": _offered_time_zones(reader.time_zone),
        "site_time_zone": django_settings.TIME_ZONE,
        "dead_addresses": find_dead_addresses(request.user, reader),
        **{name: request.GET.get(name, "")[: validators.MAX_CATEGORY_LENGTH] for name in MESSAGES},
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
                key = validators.text("category", key, validators.MAX_CATEGORY_LENGTH)
                for channel in shown_channels():
                    if (choice := form.get(f"{channel}.{number}")) is not None:
                        changes[key, channel] = choice
            preferences.choose(user, changes)
            if "digest_hour" in form:
                preferences.change_reader(
                    user,
                    digest_hour=_parse_digit(form["digest_hour"]),
                    digest_day=_parse_digit(form.get("digest_day", "0")),
                    time_zone=form.get("time_zone", ""),
                )
    except preferences.TooManyPreferences:
        return _too_many()
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    return HttpResponseRedirect(f"{reverse('notifications:preferences')}?saved=1", status=303)


def _parse_digit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise ValueError(f"{text[:20]!r} is not a number of an hour or a day.")
    return int(text)


@page_view
@require_POST
def mute(request: HttpRequest) -> HttpResponse:
    """Mute the ``category`` of the form, and return to the inbox that sent it, or show the preferences."""
    category = _parse_category(request)
    if load_categories().get(category).is_required:
        return text_response(gettext("This category cannot be switched off. Go back."), status=409)
    try:
        preferences.mute(request.user.pk, category)
    except preferences.TooManyPreferences:
        return _too_many()
    return _redirect_to_inbox(request, MUTED + quote(category, safe="")) or _redirect(muted=category)


@page_view
@require_POST
def unmute(request: HttpRequest) -> HttpResponse:
    """Unmute the ``category`` of the form, and return to the inbox that sent it, or show the preferences."""
    category = _parse_category(request)
    preferences.unmute(request.user.pk, category)
    return _redirect_to_inbox(request, UNDONE) or _redirect(unmuted=category)


def _redirect_to_inbox(request: HttpRequest, changed: str) -> HttpResponse | None:
    if (query := request.POST.get("query")) is None:
        return None
    return redirect(request, parse_query(QueryDict(query)), changed)


def _redirect(**query: str) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('notifications:preferences')}?{urlencode(query)}", status=303)


def _too_many() -> HttpResponse:
    return text_response(
        gettext(
            "You have preferences for too many categories. Go back, and set some of them to their defaults."
        ),
        status=409,
    )


def _parse_category(request: HttpRequest) -> str:
    try:
        return validators.text(
            "category", request.POST.get("category", ""), validators.MAX_CATEGORY_LENGTH, required=True
        )
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc


def list_links(page: str) -> list[tuple[str, str]]:
    """Return the label and address of each link of a page."""
    return [
        *(list_channel_links() if page == "inbox" else ()),
        (gettext("Preferences"), reverse("notifications:preferences")),
    ]


def list_channel_links() -> list[tuple[str, str]]:
    """Return the label and address of each page where users set a channel up."""
    return [link for name in hooks.channels for link in find_channel(name).links()]


def list_buttons(row: Notification) -> list[PageButton]:
    """Return the button that mutes the category of a notification, none if it has none or is required."""
    category = load_categories().get(row.category)
    if not row.category or category.is_required:
        return []
    label = gettext("Mute “%(category)s”") % {"category": category.name}
    return [PageButton(label, "mute", reverse("notifications:mute"), "category", row.category)]


def describe_muting(user: Any, change: str) -> tuple[str, PageButton] | None:
    """Return the message after a category was muted, and the button that undoes it."""
    category = change.removeprefix(MUTED)
    if category == change or not preferences.read_choices([user], [category]):
        return None
    text = gettext("“%(muted)s” is muted. Its notifications are kept in your inbox as read.")
    undo = PageButton(gettext("Undo"), "", reverse("notifications:unmute"), "category", category)
    return text % {"muted": load_categories().get(category).name}, undo


@api_view("GET, POST")
def api_preferences(request: HttpRequest) -> HttpResponse:
    """Return the preferences of the user, after storing the changes that the body of a POST has."""
    if request.method == "POST":
        _change_preferences(request.user.pk, parse_json_object(request))
    return _preferences_of(request.user.pk)


def _preferences_of(user: Any) -> HttpResponse:
    reader = preferences.read_reader(user)
    until = preferences.paused_until(reader, times.now())
    document = {
        "categories": [
            {
                "category": row.key,
                "name": row.name,
                "description": row.description,
                "required": row.is_required,
                "channels": row.channels,
            }
            for row in read_rows(user)
        ],
        "paused_until": times.format_time(until) if until else None,
        "time_zone": reader.time_zone,
        "digest_hour": reader.digest_hour,
        "digest_day": reader.digest_day,
    }
    return json_response(document)


def _change_preferences(user: Any, body: dict[str, Any]) -> None:
    changes = _parse_changes(body.pop("categories", {}))
    values: dict[str, Any] = {}
    for field, maximum in (("digest_hour", 23), ("digest_day", 6)):
        if field in body:
            values[field] = parse_integer(body.pop(field), field, maximum=maximum)
    if "time_zone" in body:
        values["time_zone"] = body.pop("time_zone")
        if not isinstance(values["time_zone"], str):
            raise Problem(422, "time_zone must be text.", field="time_zone")
    if "paused_until" in body:
        values["paused_until"] = _parse_time(body.pop("paused_until"))
    if body:
        raise Problem(422, f"There is no field {next(iter(body))[:100]!r}.")
    try:
        # Both are checked before either is stored.
        preferences.check_reader(values)
        preferences.choose(user, changes)
        if values:
            preferences.change_reader(user, **values)
    except preferences.TooManyPreferences as exc:
        raise Problem(
            409, f"There are preferences for {preferences.MAX_CATEGORIES} categories. Set some to null."
        ) from exc
    except ValueError as exc:
        raise Problem(422, str(exc)) from exc


def _parse_changes(value: Any) -> dict[tuple[str, str], str | None]:
    if not isinstance(value, dict) or len(value) > preferences.MAX_CATEGORIES:
        raise Problem(
            422, 'categories must be an object like {"export": {"email": "off"}}.', field="categories"
        )
    changes: dict[tuple[str, str], str | None] = {}
    for key, channels in value.items():
        try:
            key = validators.text("category", key, validators.MAX_CATEGORY_LENGTH)
        except ValueError as exc:
            raise Problem(422, str(exc), field="categories") from exc
        if not isinstance(channels, dict) or not all(
            isinstance(each, str | None) for each in channels.values()
        ):
            raise Problem(
                422, 'A category has channels and choices like {"email": "off"}.', field="categories"
            )
        changes |= {(key, channel): choice for channel, choice in channels.items()}
    return changes


def _parse_time(value: Any) -> Any:
    if value is None:
        return None
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        moment = moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise Problem(
            422, "paused_until must be a time like 2026-05-01T12:00:00Z, or null.", field="paused_until"
        )
    return moment


def _offered_time_zones(chosen: str) -> list[str]:
    offered = {zone for zone in times.zone_names() if "/" in zone and not zone.startswith("Etc/")}
    return sorted(offered | set(filter(None, [chosen])))


def _pause_label(hours: int) -> str:
    labels = {
        1: gettext("For an hour"),
        8: gettext("For 8 hours"),
        24: gettext("For a day"),
        24 * 7: gettext("For a week"),
    }
    return labels[hours]
