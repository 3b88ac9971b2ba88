"""The sums of the statistics, and of the rows that they count."""

from collections import Counter

from notifications.contrib.operations.statistics import read_totals
from notifications.models import Attempt, Job


def counted():
    """Return how many jobs and attempts the statistics count, by outcome."""
    sums = Counter()
    for total in read_totals():
        sums[total.outcome] += total.count
    return dict(sums)


def ended():
    """Return how many jobs are done, by state."""
    states = Job.objects.filter(state__in=("succeeded", "failed", "cancelled")).values_list(
        "state", flat=True
    )
    return dict(Counter(states))


def lost():
    """Return how many attempts lost their worker."""
    return Attempt.objects.filter(outcome="lost").count()
