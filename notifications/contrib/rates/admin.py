"""The admin of rates: what each limit has used, what waits for it until when, and who has closed it until when."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin import ReadOnlyMixin
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.uses import (
    LimitUse,
    moment_after,
    read_uses,
    unused_limits,
)
from notifications.db import database_now
from notifications.times import format_short

#: What was used, by the seconds of a rate.
USED_TEXTS = {
    60: _("%(used)s of %(count)s this minute"),
    3_600: _("%(used)s of %(count)s this hour"),
    86_400: _("%(used)s of %(count)s this day"),
}


@admin.register(Limit)
class LimitAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("key", "declared", "used_now", "waiting", "begun", "closed", "correction")
    search_fields = ("key",)
    ordering = ("key",)
    show_full_result_count = False
    fields = list_display

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list, whose first page has the declared limits too that have no row yet."""
        changelist = super().get_changelist_instance(request)
        if changelist.page_num == 1 and not changelist.query:
            unused = unused_limits(database_now())
            changelist.result_list = sorted([*changelist.result_list, *unused], key=lambda limit: limit.key)
            changelist.result_count += len(unused)
        _add_use(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Limit | None:
        found: Limit | None = super().get_object(request, object_id, from_field)
        if found is None:
            unused = unused_limits(database_now())
            found = next((limit for limit in unused if limit.key == object_id), None)
        if found:
            _add_use([found])
        return found

    @admin.display(description=_("limit"))
    def declared(self, limit: Limit) -> str:
        """Return the rate and the burst as they are declared now."""
        rate = _use_of(limit).rate
        if rate is None:
            return _("Not declared")
        return _("%(rate)s, burst %(burst)s") % {"rate": rate.text, "burst": f"{rate.burst:,}"}

    @admin.display(description=_("used"))
    def used_now(self, limit: Limit) -> str:
        """Return what was used of the limit in its minute, hour or day."""
        use = _use_of(limit)
        if use.rate is None:
            return "-"
        return USED_TEXTS[use.rate.seconds] % {"used": f"{use.used:,}", "count": f"{use.rate.count:,}"}

    @admin.display(description=_("waiting"))
    def waiting(self, limit: Limit) -> str:
        """Return how many jobs wait for the limit."""
        use = _use_of(limit)
        return f"{use.waiting - 1:,}+" if use.is_capped else f"{use.waiting:,}"

    @admin.display(description=_("begun by"))
    def begun(self, limit: Limit) -> str:
        """Return about when the jobs that wait will have begun."""
        use = _use_of(limit)
        if not use.waiting or use.rate is None:
            return "-"
        time = format_short(moment_after(limit.now, use.seconds))  # type: ignore[attr-defined]
        return _("after %(time)s") % {"time": time} if use.is_capped else time

    @admin.display(description=_("closed until"))
    def closed(self, limit: Limit) -> str:
        """Return until when the partner takes nothing."""
        seconds = _use_of(limit).closed_seconds
        return format_short(moment_after(limit.now, seconds)) if seconds else "-"  # type: ignore[attr-defined]

    @admin.display(description=_("corrected by"))
    def correction(self, limit: Limit) -> str:
        """Return what the partner has said last, and when."""
        if limit.corrected_at is None:
            return "-"
        return f"{limit.corrected_by} ({format_short(limit.corrected_at)})"


def _use_of(limit: Limit) -> LimitUse:
    return limit.use  # type: ignore[attr-defined, no-any-return]


def _add_use(limits: list[Limit]) -> None:
    """Set ``now`` and ``use`` of limits that are shown."""
    now = database_now()
    uses = read_uses(limits, now)
    for limit in limits:
        limit.now, limit.use = now, uses[limit.key]  # type: ignore[attr-defined]
