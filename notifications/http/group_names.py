"""The name of a group of notifications on the inbox page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from string import Formatter, punctuation

from notifications import serializers
from notifications.jobs.declaring.observations import label_of
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
    declared, has_arguments = _split_declared(job) if job else ("", False)
    if declared and not has_arguments:
        return declared
    return (
        _shorten(_common_words(group.titles))
        or _shorten(declared.split())
        or (label_of(job.task_path) if job else newest.title)
    )


def _split_declared(job: Job) -> tuple[str, bool]:
    """Return the title that the task of a job declares, up to its first argument, and whether it has one."""
    text = ""
    try:
        for literal, argument, *_ in Formatter().parse(loaded_title_at(job.task_path)):
            text += literal
            if argument is not None:
                # "Re{number}" ends in a part of a word.
                return (text.rpartition(" ")[0] if text[-1:].isalnum() else text), True
    except ValueError:  # a translation that is no format string
        return "", False
    return text.strip(), False


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
    words = text.split()
    return (
        sum(map(text.count, QUOTES)) % 2 == 1
        or any(text.count(pair[0]) != text.count(pair[1]) for pair in PAIRS)
        or sum(word[0] in "'‘‚" for word in words) > sum(word[-1] in "'’‘" for word in words)  # noqa: RUF001
    )
