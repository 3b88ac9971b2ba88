"""The API of preferences."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime

from notifications import times, validators
from notifications.contrib.deliveries import preferences
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
        values["paused_until"] = _parse_time(body.pop("paused_until"))
    if body:
        raise Problem(422, f"There is no field {next(iter(body))[:100]!r}. Fields: {', '.join(FIELDS)}.")
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
            key = validators.text("category", key, validators.MAX_NAME_LENGTH)
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
