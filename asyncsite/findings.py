"""The findings of a report, which its job writes while it runs."""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from asyncsite.numbers import format_number
from asyncsite.summary import describe_outcomes

#: A response that takes longer is a finding.
SLOW_SECONDS = 2


def describe_start(count):
    """Return the first line: how many URLs are checked now."""
    text = ngettext("Checking {count} URL.", "Checking {count} URLs.", count)
    return f"{text.format(count=format_number(count))}\n"


def describe_findings(results):
    """Return a line for each call that failed, was refused or was slow. ``results`` are (position, URL, CallResult)."""
    return "".join(
        f"{url}\n    {finding}\n" for _position, url, call in results if (finding := _describe(call))
    )


def describe_end(counts):
    """Return the last line: the number of calls of each outcome."""
    return _("Done: {outcomes}.").format(outcomes=describe_outcomes(**counts)) + "\n"


def _describe(call):
    if call.outcome != "ok":
        return call.error
    seconds = (call.elapsed_ms or 0) / 1000
    if seconds < SLOW_SECONDS:
        return ""
    return _("It took {seconds} s.").format(seconds=format_number(round(seconds, 1)))
