"""A stored time that gates something: ``stored_times.py`` and extensions list them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from notifications import times
from notifications.db.locks import lock_query
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, database, fair_atomic


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTime:
    """A field that gates something.

    ``longest``
        How far it may lie ahead.
    ``changes``
        What is changed in place of setting it to now, or besides.
    ``can_repair``
        Whether it is replaced. Otherwise doctor only names it.
    """

    model: Any
    name: str
    rows: Q = field(default_factory=Q)
    longest: timedelta = timedelta(0)
    changes: Mapping[str, Any] = field(default_factory=dict)
    can_repair: bool = True

    def find(self, now: datetime) -> Any:
        """Return a query of the rows whose time lies too far ahead."""
        latest = times.latest_possible(now, self.longest)
        rows = self.model.objects.using(database()).filter(self.rows, **{f"{self.name}__gt": latest})
        return rows.order_by(self.name, "pk")  # the order of the indexes

    def repair(self, now: datetime) -> int:
        """Replace the times of all rows. Return how many."""

        def write() -> int:
            found = [row.pk for row in lock_query(self.find(now).only("pk"))[:MAX_ROWS_PER_TRANSACTION]]
            rows = self.model.objects.using(database()).filter(pk__in=found)
            return int(rows.update(**{self.name: now, **self.changes})) if found else 0

        count = 0
        while changed := fair_atomic(write):
            count += changed
        return count
