"""The API of preferences."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime

from notifications import times, validators
from notifications.contrib.deliveries import preferences
from notifications.contrib.deliveries.categories import Choice
from notifications.contrib.deliveries.preference_rows import read_rows
from notifications.http import Problem, api_view, json_response, parse_integer, parse_json_object

#: What a POST may have.
FIELDS = ("categories", "paused_until", "quiet_hours", "time_zone", "digest_hour", "digest_day")


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
                "off_until": times.format_time(row.off_until) if row.off_until else None,
            }
            for row in read_rows(user)
        ],
        "paused_until": times.format_time(until) if until else None,
        "quiet_hours": reader.quiet_hours,
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
    if "quiet_hours" in body:
        values["quiet_hours"] = body.pop("quiet_hours")
    if "paused_until" in body:
        values["paused_until"] = _parse_time(body.pop("paused_until"), "paused_until")
    if body:
        raise Problem(422, f"There is no field {next(iter(body))[:100]!r}. Fields: {', '.join(FIELDS)}.")
    try:
        # All is checked before anything is stored.
        preferences.check_reader(values)
        preferences.check_choices(changes.choices)
        _choose(user, changes)
        if values:
            preferences.change_reader(user, **values)
    except preferences.TooManyPreferences as exc:
        raise Problem(
            409, f"There are preferences for {preferences.MAX_CATEGORIES} categories. Set some to null."
        ) from exc
    except ValueError as exc:
        raise Problem(422, str(exc)) from exc


class Changes(NamedTuple):
    """The choices of a body by category and channel, and until when categories are off; None: for good."""

    choices: dict[tuple[str, str], str | None]
    off_until: dict[str, datetime | None]


def _choose(user: Any, changes: Changes) -> None:
    """Store the choices that are not in force already: these keep their end, and what was chosen before them."""
    choices, ends, now = preferences.read_choices([user]), preferences.read_off_until(user), times.now()
    new: dict[datetime | None, dict[tuple[str, str], str | None]] = defaultdict(dict)
    for (key, channel), choice in changes.choices.items():
        value = choice or preferences.choice_in_force({}, user, key, channel)
        until = changes.off_until.get(key, ends.get(key)) if value == Choice.OFF else None
        is_in_force = choice is not None and choice == preferences.choice_in_force(
            choices, user, key, channel
        )
        is_over = until is not None and until <= now
        if not is_over and not (is_in_force and (value != Choice.OFF or until == ends.get(key))):
            new[until][key, channel] = choice
    if len({key for group in new.values() for key, _ in group}) > preferences.MAX_CATEGORIES:
        raise ValueError(f"At most {preferences.MAX_CATEGORIES} categories can be changed at once.")
    for until, group in new.items():
        preferences.choose(user, group, keep_before="before_mute" if until else "", off_until=until)


def _parse_changes(value: Any) -> Changes:
    """Return what ``categories`` of a body has: choices by category, or rows as a GET returns them."""
    if isinstance(value, dict) and len(value) <= preferences.MAX_CATEGORIES:
        rows = [{"category": key, "channels": channels} for key, channels in value.items()]
    else:
        rows = value
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "category" in row for row in rows):
        raise Problem(
            422,
            'categories must be an object like {"export": {"email": "off"}}, or a list as GET returns it.',
            field="categories",
        )
    changes = Changes({}, {})
    for row in rows:
        try:
            key = validators.text("category", row["category"], validators.MAX_NAME_LENGTH)
        except (TypeError, ValueError) as exc:
            raise Problem(422, str(exc), field="categories") from exc
        channels = row.get("channels")
        if not isinstance(channels, dict) or not all(
            isinstance(each, str | None) for each in channels.values()
        ):
            raise Problem(
                422, 'A category has channels and choices like {"email": "off"}.', field="categories"
            )
        changes.choices.update({(key, channel): choice for channel, choice in channels.items()})
        if "off_until" in row:
            changes.off_until[key] = until = _parse_time(row["off_until"], "off_until")
            if until and until > times.now() + preferences.MAX_PAUSE:
                text = f"off_until must be a time in at most {preferences.MAX_PAUSE.days} days, or null."
                raise Problem(422, text, field="off_until")
    return changes


def _parse_time(value: Any, field: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        moment = moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise Problem(422, f"{field} must be a time like 2026-05-01T12:00:00Z, or null.", field=field)
    return moment
