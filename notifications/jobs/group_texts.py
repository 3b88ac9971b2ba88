"""What lists and e-mails call a group of notifications, and show of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from string import Formatter, punctuation
from typing import NamedTuple
from uuid import UUID

from django.utils.translation import ngettext

from notifications import serializers
from notifications.db.transactions import database
from notifications.jobs.declaring.policies import title_from_name
from notifications.jobs.results import loaded_title_at
from notifications.models import Job, Notification
from notifications.streams.grouping import Group

#: Words that end no name, as those of "Export for" and "From", in the languages that this app is translated to.
CONNECTING_WORDS = re.compile(
    "and|the|for|from|into|with|und|der|die|das|den|für|von|aus|mit|para|por|con|del|los|las|una|pour|par|des|les|"
    "aux|dans|avec|une"
)
#: What is removed from the end of a name. Closing brackets and quotes stay.
SEPARATORS = " :,;-\N{EN DASH}—#.…·|/&+=@*~"
#: Levels of which one notification is shown.
WORSE_LEVELS = ("error", "warning")
QUOTES, PAIRS = '"“”„', ("()", "[]", "{}", "«»")


class GroupTexts(NamedTuple):
    """What the row of a group shows: ``level`` is the most severe one, ``body`` its newest notification.

    Without a failure or a warning there is no body, but for people, whose names are the title: one of many says nothing
    of the others.
    """

    title: str
    body: str
    level: str


def describe_group(group: Group, newest: Notification, job: Job | None) -> GroupTexts:
    """Return the texts of a group in the current language, with how many it has of each level, the worst first.

    ``job``
        The job of the newest notification, if it is of one.
    """
    texts = {
        "error": ngettext("%(count)d failed", "%(count)d failed", group.counts.get("error", 0)),
        "warning": ngettext("%(count)d warning", "%(count)d warnings", group.counts.get("warning", 0)),
        "success": ngettext("%(count)d succeeded", "%(count)d succeeded", group.counts.get("success", 0)),
        "info": ngettext("%(count)d update", "%(count)d updates", group.counts.get("info", 0)),
    }
    counts = [text % {"count": group.counts[level]} for level, text in texts.items() if level in group.counts]
    name = name_group(group, newest, job)
    worst = group.worst or newest
    texts_of_worst = ["" if worst.title == name else worst.title, worst.body]
    return GroupTexts(
        # The counts are not those of the newest ones only, which a reader would take for all.
        title=name if group.has_more else f"{name}: {', '.join(counts)}",
        body=" · ".join(filter(None, texts_of_worst)) if group.people or group.level in WORSE_LEVELS else "",
        level=group.level,
    )


def read_jobs(rows: Iterable[Notification]) -> dict[UUID, Job]:
    """Return the jobs after which groups of these notifications may be called."""
    found = {row.job: row.user_id for row in rows if isinstance(row.job, UUID) and row.group_key}
    if not found:
        return {}
    jobs = Job.objects.using(database()).filter(id__in=list(found)).only("id", "user", "title", "task_path")
    return {job.id: job for job in jobs if job.user_id == found[job.id]}


def name_people(group: Group) -> str:
    """Return a title of a group that people have caused: "Linus and 2 others"; "" if there are not several."""
    if len(group.people) < 2:
        return ""
    others = len(group.people) - 1
    text = ngettext("%(name)s and %(count)s other", "%(name)s and %(count)s others", others)
    return text % {"name": group.people[0], "count": others}


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
    return sum(map(text.count, QUOTES)) % 2 == 1 or any(
        text.count(pair[0]) != text.count(pair[1]) for pair in PAIRS
    )
