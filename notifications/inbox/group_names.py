"""How a group of notifications is shown as one row, on the inbox page and in e-mails."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from string import Formatter, punctuation
from typing import NamedTuple

from django.utils.translation import ngettext

from notifications import serializers
from notifications.jobs.declaring.policies import title_from_name
from notifications.jobs.results import loaded_title_at
from notifications.models import Job, Notification
from notifications.streams.groups import Group

#: Words that end no name, as those of "Export for" and "From", in the languages that this app is translated to.
CONNECTING_WORDS = re.compile(
    "and|the|for|from|into|with|und|der|die|das|den|für|von|aus|mit|para|por|con|del|los|las|una|pour|par|des|les|"
    "aux|dans|avec|une"
)
#: What is removed from the end of a name. Closing brackets and quotes stay.
SEPARATORS = " :,;-\N{EN DASH}—#.…·|/&+=@*~"
QUOTES, PAIRS = '"“”„', ("()", "[]", "{}", "«»")


class GroupTexts(NamedTuple):
    """What the row of a group shows. ``level`` is the most severe one among its notifications."""

    title: str
    body: str
    level: str


def describe_group(group: Group, newest: Notification, job: Job | None) -> GroupTexts:
    """Return the texts of a group in the current language, with how many notifications of each level it has.

    ``job``
        The job of the newest notification, if it is of one.
    """
    texts = {
        "success": ngettext("%(count)d succeeded", "%(count)d succeeded", group.counts.get("success", 0)),
        "error": ngettext("%(count)d failed", "%(count)d failed", group.counts.get("error", 0)),
        "warning": ngettext("%(count)d warning", "%(count)d warnings", group.counts.get("warning", 0)),
        "info": ngettext("%(count)d update", "%(count)d updates", group.counts.get("info", 0)),
    }
    counts = [text % {"count": group.counts[level]} for level, text in texts.items() if level in group.counts]
    levels = [level for level in ("error", "warning", "success") if level in group.counts]
    name = name_group(group, newest, job)
    return GroupTexts(
        # The counts are not those of the newest ones only, which a reader would take for all.
        title=name if group.has_more else f"{name}: {', '.join(counts)}",
        body=newest.body if newest.title == name else newest.title,
        level=levels[0] if levels else "info",
    )


def name_group(group: Group, newest: Notification, job: Job | None) -> str:
    """Return what a group is called. The order is that of docs/how-to/inbox.md.

    ``job``
        The job of the newest notification, if it is of one.
    """
    if group.name or len(group.titles) == 1:
        return group.name or newest.title
    try:
        return str(serializers.decode_object(newest.data)["target"]["name"])
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    return (
        (_declared_name(job) if job else "")
        or _shorten(_common_words(group.titles))
        or (title_from_name(job.task_path) if job else newest.title)
    )


def _declared_name(job: Job) -> str:
    """Return the title that the task of a job declares, ``""`` if it names arguments."""
    try:
        parts = list(Formatter().parse(loaded_title_at(job.task_path)))
    except ValueError:  # a translation that is no format string
        return ""
    has_arguments = any(argument is not None for _, argument, *_ in parts)
    return "" if has_arguments else "".join(text for text, *_ in parts).strip()


def _common_words(titles: Iterable[str]) -> list[str]:
    """Return the words with which all titles begin."""
    columns = zip(*(title.split() for title in titles), strict=False)
    return [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]


def _shorten(words: list[str]) -> str:
    """Return the longest beginning that can be read as a name, ``""`` if none can: not "Import of" or "Report #"."""
    for count in range(len(words), 0, -1):
        word = words[count - 1].strip(punctuation + QUOTES + SEPARATORS)
        name = " ".join(words[:count]).rstrip(SEPARATORS)
        if len(word) > 2 and not CONNECTING_WORDS.fullmatch(word.lower()) and not _is_open(name):
            return name
    return ""


def _is_open(text: str) -> bool:
    """Return whether a quote or bracket in a text is not closed."""
    return sum(map(text.count, QUOTES)) % 2 == 1 or any(
        text.count(pair[0]) != text.count(pair[1]) for pair in PAIRS
    )
