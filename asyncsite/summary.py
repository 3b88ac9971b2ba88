"""Totals of a report: counts of outcomes, median and 95th percentile of the response times."""

from dataclasses import asdict, dataclass
from math import ceil

from django.utils.translation import ngettext

from asyncsite.numbers import format_number


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts of calls, and times in milliseconds of the calls that were answered (None if there are none)."""

    ok: int
    failed: int
    refused: int
    median_ms: int | None
    p95_ms: int | None

    @property
    def calls(self):
        return self.ok + self.failed + self.refused

    @property
    def text(self):
        return describe_outcomes(self.ok, self.failed, self.refused)

    def as_dict(self):
        return asdict(self)


def compute_totals(calls):
    """Return the Totals of Call rows."""
    outcomes = [call.outcome for call in calls]
    times = response_times(calls)
    return Totals(
        ok=outcomes.count("ok"),
        failed=outcomes.count("failed"),
        refused=outcomes.count("refused"),
        median_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
    )


def response_times(calls):
    """Return the milliseconds of all calls that got a response of any status, ascending."""
    return sorted(
        call.elapsed_ms for call in calls if call.status is not None and call.elapsed_ms is not None
    )


def percentile(ascending, percent):
    """Return the percentile by nearest rank, a value that occurs, or None of an empty list."""
    if not ascending:
        return None
    return ascending[max(ceil(len(ascending) * percent / 100), 1) - 1]


def describe_outcomes(ok=0, failed=0, refused=0):
    """Return a text like "36 ok, 3 failed", without counts of zero; an empty one if all are zero."""
    texts = (
        (ok, ngettext("{count} ok", "{count} ok", ok)),
        (failed, ngettext("{count} failed", "{count} failed", failed)),
        (refused, ngettext("{count} refused", "{count} refused", refused)),
    )
    return ", ".join(text.format(count=format_number(count)) for count, text in texts if count)
