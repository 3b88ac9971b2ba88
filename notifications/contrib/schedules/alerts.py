"""The alert that schedules were missed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.translation import gettext_lazy, ngettext

from notifications.contrib.schedules.models import Tick
from notifications.db.transactions import database
from notifications.extension import AlertKind

#: The recent ticks that are read at most, the latest.
MAX_TICKS_READ = 1_000
#: Seconds after which a missed tick is over.
WINDOW_SECONDS = 300.0


class ScheduleMissed(AlertKind):
    """Ticks of a schedule were recently missed, or could not be enqueued, and it has not run since."""

    kind, label = "schedule", gettext_lazy("Schedule missed")
    model, model_label = "notifications_schedules.Schedule", gettext_lazy("Schedule")

    def find(self, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = Tick.objects.using(database()).filter(
            recorded_at__gte=now - timedelta(seconds=WINDOW_SECONDS),
            outcome__in=(Tick.Outcome.MISSED, Tick.Outcome.FAILED),
        )
        missed: dict[str, list[Tick]] = {}
        for tick in rows.order_by("-recorded_at")[:MAX_TICKS_READ]:
            missed.setdefault(tick.schedule_id, []).append(tick)
        for name, ticks in missed.items():
            newest = Tick.objects.using(database()).filter(schedule_id=name).order_by("-due_at").first()
            # One round records missed ticks and enqueues the newest. It has run if a later one has enqueued.
            if not (
                newest
                and newest.outcome == Tick.Outcome.ENQUEUED
                and newest.recorded_at > ticks[0].recorded_at
            ):
                yield (
                    name,
                    {
                        "count": sum(tick.count for tick in ticks),
                        "last": max(tick.due_at for tick in ticks).isoformat(),
                        "detail": ticks[0].detail,
                    },
                )

    def describe(self, facts: dict[str, Any]) -> str:
        last = datetime.fromisoformat(facts["last"]).astimezone(UTC)
        detail = ngettext(
            "%(count)d run was missed, the last one due at %(last)s UTC.",
            "%(count)d runs were missed, the last one due at %(last)s UTC.",
            facts["count"],
        ) % {"count": facts["count"], "last": f"{last:%Y-%m-%d %H:%M}"}
        return f"{detail} {facts['detail']}".strip()
