"""The admin of rates: what each limit has used, how many jobs wait for it, and who has closed it until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin import ReadOnlyMixin
from notifications.contrib.rates.declarations import rate_of
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import MAX_CLOSED_SECONDS, SECOND, to_microseconds
from notifications.db import database_now
from notifications.jobs import LimitLine
from notifications.times import format_exact

#: Waiting jobs of a limit that are counted.
MAX_COUNTED = 1_000


@admin.register(Limit)
class LimitAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("key", "declared", "used", "waiting", "closed", "correction")
    search_fields = ("key",)
    ordering = ("key",)
    show_full_result_count = False
    fields = list_display

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        _add_state(changelist.result_list)
        return changelist

    def get_object(self, *args: Any, **kwargs: Any) -> Limit | None:
        found: Limit | None = super().get_object(*args, **kwargs)
        if found:
            _add_state([found])
        return found

    @admin.display(description=_("limit"))
    def declared(self, limit: Limit) -> str:
        """Return the rate and the burst as they are declared now."""
        rate = rate_of(limit.key)
        if rate is None:
            return _("Not declared")
        return _("%(rate)s, burst %(burst)s") % {"rate": rate.text, "burst": f"{rate.burst:,}"}

    @admin.display(description=_("waiting"))
    def waiting(self, limit: Limit) -> str:
        """Return how many jobs wait for the limit."""
        count: int = limit.waiting  # type: ignore[attr-defined]
        return f"{count:,}" if count <= MAX_COUNTED else f"{MAX_COUNTED:,}+"

    @admin.display(description=_("closed until"))
    def closed(self, limit: Limit) -> str:
        """Return until when the partner takes nothing."""
        ahead = limit.closed_until - limit.now  # type: ignore[attr-defined]
        return (
            format_exact(datetime.fromtimestamp(limit.closed_until / SECOND, UTC))
            if 0 < ahead <= MAX_CLOSED_SECONDS * SECOND
            else "-"
        )

    @admin.display(description=_("corrected by"))
    def correction(self, limit: Limit) -> str:
        """Return what the partner has said last, and when."""
        if limit.corrected_at is None:
            return "-"
        return f"{limit.corrected_by} ({format_exact(limit.corrected_at)})"


def _add_state(limits: list[Limit]) -> None:
    """Set ``now`` and ``waiting`` of limits that are shown."""
    now = to_microseconds(database_now())
    counts = LimitLine.count_waiting([limit.key for limit in limits], MAX_COUNTED + 1)
    for limit in limits:
        limit.now = now  # type: ignore[attr-defined]
        limit.waiting = counts[limit.key]  # type: ignore[attr-defined]
