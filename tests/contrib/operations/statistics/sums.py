"""The sums of the statistics, and of the rows that they count."""

from collections import Counter

from notifications.contrib.operations.statistics import read_totals


def counted():
    """Return how many jobs and attempts the statistics count, by outcome."""
    sums = Counter()
    for total in read_totals():
        sums[total.outcome] += total.count
    return dict(sums)
