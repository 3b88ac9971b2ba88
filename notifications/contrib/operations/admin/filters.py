"""Filters beside lists: periods of time, and those of the list of notifications."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.admin import ListFilter
from notifications.contrib.operations.periods import read_span
from notifications.db import database, database_now
from notifications.models import Notification

PERIODS = {"hour": _("Past hour"), "day": _("Past 24 hours"), "week": _("Past 7 days")}
#: The newest rows that the choices of a filter come from.
MAX_ROWS_READ = 300
#: How far the time in an id may be from the time of creation.
ID_TOLERANCE = timedelta(minutes=1)


class CreatedFilter(ListFilter):
    """Filters jobs by when they were created: a period until now, or from one time to another."""

    title = _("created")
    parameter_name = "created"
    template = "admin/notifications_operations/time_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        #: Parameters of a range, as the form sends them: times in the time zone of the page.
        self.range = {name: params.pop(name)[-1] for name in self.expected_parameters()[1:] if name in params}
        super().__init__(request, params, *args)

    @property
    def ends(self) -> list[tuple[Any, str, str]]:
        """The fields of the form: label, parameter and value."""
        labels = zip((_("From"), _("Until")), self.expected_parameters()[1:], strict=True)
        return [(label, name, _in_form(self.range.get(name, ""))) for label, name in labels]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return list(PERIODS.items())

    def expected_parameters(self) -> list[str]:
        return [self.parameter_name, f"{self.parameter_name}_from", f"{self.parameter_name}_until"]

    def own_parameters(self) -> set[str]:
        return super().own_parameters() | set(self.range)

    def choices(self, changelist: Any) -> Any:
        without_range = changelist.get_query_string(remove=self.expected_parameters())
        for choice in super().choices(changelist):
            choice["selected"] = choice["selected"] and not any(self.range.values())
            yield choice | ({"query_string": without_range} if choice["display"] == _("All") else {})

    def condition(self) -> dict[str, Any]:
        conditions = {name: _parse_time(text) for name, text in self.range.items() if text}
        if period := self.value():
            since, until = read_span(period, database_now(is_estimate=True))
            conditions[f"{self.parameter_name}_from"] = since
            if until:
                conditions[f"{self.parameter_name}_until"] = until
        return conditions


class FinishedFilter(CreatedFilter):
    title = _("finished")
    parameter_name = "finished"


def _parse_time(text: str) -> datetime:
    """Return a time of a form, in the time zone of the page. Raises ValueError."""
    if (moment := parse_datetime(text)) is None:
        raise ValueError(f"{text!r} is no time.")
    try:
        return times.as_utc(moment.replace(tzinfo=moment.tzinfo or timezone.get_current_timezone()))
    except OverflowError:  # at the ends of the calendar
        raise ValueError(f"{text!r} is no time.") from None


def _in_form(text: str) -> str:
    """Return a time as its field has it, in the time zone of the page."""
    try:
        return f"{timezone.localtime(_parse_time(text)):%Y-%m-%dT%H:%M}" if text else ""
    except OverflowError:  # in the first or last hours that there are
        return ""


class CategoryFilter(admin.SimpleListFilter):
    """Filters notifications by category. The choices are those of the newest notifications."""

    title = _("category")
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        newest = Notification.objects.using(database()).order_by("-id")
        names = set(newest.values_list("category", flat=True)[:MAX_ROWS_READ]) | {self.value() or ""}
        return [(name, name) for name in sorted(names - {""})]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(category=self.value()) if self.value() else queryset


class NotificationCreatedFilter(CreatedFilter):
    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            conditions = self.condition()
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc
        if begin := conditions.get("created_from"):
            queryset = queryset.filter(created_at__gte=begin)
        if end := conditions.get("created_until"):
            queryset = queryset.filter(created_at__lt=end)
        return queryset

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        return rows, None if slices_of is None else slices_of.filter(**self._id_range())

    def _id_range(self) -> dict[str, UUID]:
        """Return conditions on ids, which hold the time of their creation, for the index that orders the list."""
        conditions, ids = self.condition(), {}
        if begin := conditions.get("created_from"):
            ids["id__gte"] = first_id(begin - ID_TOLERANCE)
        if end := conditions.get("created_until"):
            ids["id__lt"] = first_id(end + ID_TOLERANCE)
        return ids


def first_id(moment: Any) -> UUID:
    """Return the smallest id that can be made at a time."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
