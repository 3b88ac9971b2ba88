"""What came of a report, in numbers and in words: how many calls passed, which failed first, and the response times."""

from dataclasses import asdict, dataclass
from math import ceil

from django.utils.translation import gettext, ngettext

from asyncsite.numbers import format_number

#: Characters of the URL that a summary names. A row of the bell shows the counts before it and the status behind it.
MAX_NAMED_URL_LENGTH = 28


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
    def problems(self):
        return self.failed + self.refused

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


def describe_passed(ok, size):
    """Return a text like "36 of 40 passed"."""
    return gettext("{ok} of {size} passed").format(ok=format_number(ok), size=format_number(size))


def describe_problems(failed, refused, first):
    """Return a text like "4 failed, first: api.example.com/orders: 404"; an empty one if all passed.

    ``first`` is what ``describe_call()`` returned of the first call that failed or was refused.
    """
    outcomes = describe_outcomes(failed=failed, refused=refused)
    if failed + refused <= 1:
        return f"{outcomes}: {first}" if outcomes else ""
    return gettext("{outcomes}, first: {call}").format(outcomes=outcomes, call=first)


def describe_call(call):
    """Return what failed and why: "api.example.com/orders: 404". ``call`` has url, status and error, as a Call."""
    if call.status is None:
        return call.error.rstrip(".")  # It names the server.
    return f"{truncate_middle(call.url.partition('://')[2], MAX_NAMED_URL_LENGTH)}: {call.status}"


def truncate_middle(text, length):
    """Shorten a text to ``length`` characters by replacing its middle with an ellipsis."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def describe_outcomes(ok=0, failed=0, refused=0):
    """Return a text like "36 passed, 3 failed", without counts of zero; an empty one if all are zero."""
    texts = (
        (ok, ngettext("{count} passed", "{count} passed", ok)),
        (failed, ngettext("{count} failed", "{count} failed", failed)),
        (refused, ngettext("{count} refused", "{count} refused", refused)),
    )
    return ", ".join(text.format(count=format_number(count)) for count, text in texts if count)
