"""What a report adds up to: counts of outcomes, and the middle and the tail of the answer times."""

from dataclasses import asdict, dataclass
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts of calls; times in milliseconds, of the calls that were answered (None without any)."""

    ok: int
    failed: int
    refused: int
    median_ms: int | None
    p95_ms: int | None

    @property
    def calls(self):
        return self.ok + self.failed + self.refused

    @property
    def words(self):
        """Like "36 ok, 3 failed"; what there is none of is left out."""
        return outcome_words(self.ok, self.failed, self.refused)

    def as_dict(self):
        return asdict(self)


def totals(calls):
    """The Totals of some Call rows."""
    outcomes = [call.outcome for call in calls]
    times = answer_times(calls)
    return Totals(
        ok=outcomes.count("ok"),
        failed=outcomes.count("failed"),
        refused=outcomes.count("refused"),
        median_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
    )


def answer_times(calls):
    """Milliseconds, ascending, of the calls that got an answer, whatever it said."""
    return sorted(
        call.elapsed_ms for call in calls if call.status is not None and call.elapsed_ms is not None
    )


def percentile(ascending, percent):
    """The smallest value that at least ``percent`` of all are not above (nearest rank); None of nothing."""
    if not ascending:
        return None
    return ascending[max(ceil(len(ascending) * percent / 100), 1) - 1]


def outcome_words(ok, failed, refused):
    counts = ((ok, "ok"), (failed, "failed"), (refused, "refused"))
    return ", ".join(f"{count:,} {word}" for count, word in counts if count) or "no calls yet"
