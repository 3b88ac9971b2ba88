"""Times: aware and in UTC in Python, in UTC in the database, also in projects with ``USE_TZ = False``.

With ``USE_TZ = False`` Django stores local times. When clocks are set back or forward, a lease would last an hour
longer or expire at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _

#: What apps use. Modules of the core use the other names, too.
__all__ = [
    "MomentField",
    "as_utc",
    "format_exact",
    "format_short",
    "format_time",
    "latest_possible",
    "now",
]


def now() -> datetime:
    """Return the current time of this machine."""
    # With USE_TZ = False timezone.now() is a local time, which is ambiguous in the hour after clocks are set back.
    return timezone.now() if settings.USE_TZ else datetime.now(UTC)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: By how much clocks of several machines may differ.
CLOCK_TOLERANCE = timedelta(minutes=1)


def latest_possible(now: datetime, longest: timedelta = timedelta(0)) -> datetime:
    """Return the latest time that can have been stored until now, of one that is at most an interval ahead.

    A later one was stored while a clock was wrong, and must not stop anything until then.
    """
    return now + longest + CLOCK_TOLERANCE


def as_utc(moment: datetime) -> datetime:
    """Return a time of the project in UTC. A naive one is taken to be in ``TIME_ZONE``."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.get_default_timezone())
    return moment.astimezone(UTC)


def format_exact(moment: datetime) -> str:
    """Return a time in the active language and time zone, with the name of the zone: the reader may be in another."""
    local = timezone.localtime(as_utc(moment))
    return f"{date_format(local, 'DATETIME_FORMAT')} {local.tzname()}"


def format_short(moment: datetime) -> str:
    """Return a time as people write it: "Nov 28, 14:02 UTC", with the year if it is not the current one."""
    local = timezone.localtime(as_utc(moment))
    is_english = (get_language() or "").startswith("en")
    if local.year == timezone.localtime(as_utc(now())).year:
        day = "M j" if is_english else "MONTH_DAY_FORMAT"
    else:
        day = "M j, Y" if is_english else "DATE_FORMAT"
    clock = date_format(local, "H:i" if is_english else "TIME_FORMAT")
    return f"{date_format(local, day)}, {clock} {local.tzname()}"


def to_microseconds(moment: datetime) -> int:
    """Return a time as the microseconds since 1970, by which rows that were changed at it are found again."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(count: int) -> datetime:
    """Return the time of ``to_microseconds()``."""
    return _EPOCH + timedelta(microseconds=count)


def format_time(moment: datetime | None) -> str | None:
    """Return a time in UTC as RFC 3339, with ``Z``."""
    if moment is None:
        return None
    return as_utc(moment).isoformat().replace("+00:00", "Z")


def stores_text(db: Any) -> bool:
    """Return whether a database stores times as text in UTC."""
    return bool(db.vendor == "sqlite")


def to_db(moment: datetime, db: Any) -> Any:
    """Return an aware time as a parameter for the database."""
    is_text = stores_text(db)
    if is_text and moment.tzinfo is UTC and db.timezone is UTC:
        return str(moment.replace(tzinfo=None))  # as adapt_datetimefield_value() does, in a fifth of its time
    if settings.USE_TZ or not is_text:
        return db.ops.adapt_datetimefield_value(moment)
    return str(moment.astimezone(UTC).replace(tzinfo=None))


def from_db(moment: datetime, db: Any) -> datetime:
    """Return a time from the database in UTC. With ``USE_TZ = False`` the database returns it naive."""
    if moment.tzinfo is not None:
        return moment
    # PostgreSQL returns the time of the session's time zone, with ``fold`` set in the repeated hour.
    zone = UTC if stores_text(db) else ZoneInfo(db.timezone_name)
    return moment.replace(tzinfo=zone).astimezone(UTC)


def describe_duration(seconds: float) -> str:
    """Return a time such as ``12 ms``, ``1.5 s``, ``4 min``, ``2.1 h`` or ``3 d``, in the active language."""
    if seconds < 0.9995:
        return _("%(count)s ms") % {"count": format_number(round(seconds * 1000))}
    if seconds < 99.5:
        return _("%(count)s s") % {"count": short_number(seconds)}
    if seconds < 99.5 * 60:
        return _("%(count)s min") % {"count": short_number(seconds / 60)}
    if seconds < 48 * 3600:
        return _("%(count)s h") % {"count": short_number(seconds / 3600)}
    return _("%(count)s d") % {"count": short_number(seconds / 86400)}


def short_number(number: float) -> str:
    """Return a number with at most one decimal, of 10 or more with none, in the active language."""
    return format_number(round(number, 0 if number >= 9.95 else 1))


def format_number(rounded: float) -> str:
    """Return a number that is rounded, in the active language."""
    return _format_number(rounded, get_language())


@lru_cache(maxsize=4096)
def _format_number(rounded: float, language: str | None) -> str:
    """Format a number for a language. Django needs 20 µs for it, and a page has a thousand numbers, many equal."""
    number = int(rounded) if rounded == int(rounded) else rounded
    return number_format(number, use_l10n=True, force_grouping=True)


def as_aware(value: Any, expression: Any, connection: Any) -> datetime:
    """Convert a value of a column in UTC, as Django's converter does for SQLite, which makes seven calls for it."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class MomentField(models.DateTimeField):
    """A DateTimeField whose values are aware and in UTC, also with ``USE_TZ = False``."""

    if TYPE_CHECKING:  # The attribute of an instance is the value.

        def __get__(self, instance: Any, owner: Any = None) -> Any: ...
        def __set__(self, instance: Any, value: Any) -> None: ...

    def get_prep_value(self, value: Any) -> Any:
        value = self.to_python(models.Field.get_prep_value(self, value))
        return None if value is None else as_utc(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        return to_db(value, connection) if isinstance(value, datetime) else value

    def get_db_converters(self, connection: Any) -> list[Callable[..., Any]]:
        return [] if settings.USE_TZ else [_from_db_value]

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


def _from_db_value(value: Any, expression: Any, connection: Any) -> Any:
    return None if value is None else from_db(value, connection)
