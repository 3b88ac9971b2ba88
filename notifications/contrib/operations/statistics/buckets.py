"""The buckets of the histograms, and percentiles from them.

The upper bound of each bucket is twice that of the one before, so the figure of a percentile lies at most a factor of
two beside the true time, and histograms of any periods can be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from notifications.contrib.operations.models import BUCKET_COUNT

#: Upper bounds in seconds, inclusive, of all buckets but the last one, which has none: 0.001 to 67108.864.
BOUNDS_SECONDS = tuple(2**n / 1000 for n in range(BUCKET_COUNT - 1))

_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: timedelta) -> int:
    """Return a time in microseconds, at least 0: the clocks of two machines may differ."""
    return max(time // _MICROSECOND, 0)


def bucket_of(time: int) -> int:
    """Return the number of the bucket that counts a time in microseconds."""
    milliseconds = -(-time // 1000)
    return min((milliseconds - 1).bit_length(), BUCKET_COUNT - 1) if milliseconds else 0


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the seconds within which a share (0 to 1) of the counted times lie; None if none is counted.

    Inside a bucket times are taken to be spread evenly. A share in the last bucket yields its lower bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for number, count in enumerate(counts):
        if count and below + count >= rank:
            if number >= len(BOUNDS_SECONDS):
                break
            lower = BOUNDS_SECONDS[number - 1] if number else 0.0
            return lower + (BOUNDS_SECONDS[number] - lower) * max(rank - below, 0.0) / count
        below += count
    return BOUNDS_SECONDS[-1]
