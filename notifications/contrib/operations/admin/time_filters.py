"""Filters by time: a period until now, or from one time to another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.contrib.operations.admin.condition_filters import JobListFilter

PERIODS = {
    "hour": (_("Past hour"), timedelta(hours=1)),
    "day": (_("Past 24 hours"), timedelta(days=1)),
    "week": (_("Past 7 days"), timedelta(days=7)),
}


class CreatedFilter(JobListFilter):
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
        return [(period, title) for period, (title, length) in PERIODS.items()]

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
            if period not in PERIODS:
                raise ValueError(f"{period!r} is no period.")
            conditions[f"{self.parameter_name}_from"] = times.now() - PERIODS[period][1]
        return conditions


class FinishedFilter(CreatedFilter):
    """Filters jobs by when they ended."""

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
