"""The output of a job as a page shows it: its text, and the lines of the app in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation
from django.urls import reverse
from django.utils.translation import gettext

from notifications.contrib.output.readers import format_offset
from notifications.contrib.output.reading import read_end, read_part
from notifications.contrib.output.storage import MARK
from notifications.db.unavailable import QUERY_ERRORS
from notifications.exceptions import JobDoesNotExist

#: Bytes of the end of an output that ``read_output_end()`` returns, about.
MAX_END_BYTES = 64 * 1024
#: A line of the app, and one that is not whole yet at the end of a part.
_MARK, _MARK_BEGINNING = re.compile("\n\x1e([^\n]*)\n"), re.compile("\n(?:\x1e[^\n]*)?\\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputText:
    """The first part of the output of ``job`` until ``offset``.

    ``lines``
        Text, each with the name of its mark: "" for what the task has written.
    """

    job: UUID
    url: str
    offset: str
    lines: list[tuple[str, str]]
    is_last: bool
    is_closed: bool
    is_cancelled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputEnd:
    """The end of the output of a job. ``lines`` as in ``OutputText``; ``url`` has all of it, "" if these are all."""

    lines: list[tuple[str, str]]
    url: str


def read_output_end(job: UUID) -> OutputEnd:
    """Return the end of the output of a job of any user."""
    text, is_cut = read_end(job, MAX_END_BYTES, MARK)
    return OutputEnd(
        lines=_split_lines(text), url=reverse("notifications:api-job-output", args=[job]) if is_cut else ""
    )


def read_output_text(user: Any, job: Any) -> OutputText | None:
    """Return the output of a job of the user, None for a job of another one. ``job`` is one, or an id.

    In an event loop, and while the database is not available, it is empty, and the script reads it from its start.
    """
    id = getattr(job, "id", job)
    id = id if isinstance(id, UUID) else UUID(str(id))
    try:
        if user.pk is None:  # as jobs without an owner have it
            return None
        part = read_part(user.pk, id, 0)
    except JobDoesNotExist:
        return None
    except (*QUERY_ERRORS, SynchronousOnlyOperation):  # the script reads it
        url = reverse("notifications:api-job-output", args=[id])
        return OutputText(
            job=id, url=url, offset="-1", lines=[], is_last=True, is_closed=False, is_cancelled=False
        )
    text, rest = part.text, ""
    if not part.is_closed and (found := _MARK_BEGINNING.search(text)):
        text, rest = text[: found.start()], found[0]
    return OutputText(
        job=id,
        url=reverse("notifications:api-job-output", args=[id]),
        offset=format_offset(part.end - len(rest.encode())),
        lines=_split_lines(text),
        is_last=part.is_last,
        is_closed=part.is_closed,
        is_cancelled=getattr(job, "state", "") == "cancelled",
    )


def _split_lines(text: str) -> list[tuple[str, str]]:
    """Return the text of an output as ``OutputText.lines`` has it."""
    lines = []
    for index, piece in enumerate(_MARK.split(text)):
        if not index % 2:
            lines += [("", piece)] if piece else []
        else:
            name, _, number = piece.partition(" ")
            lines.append((name, gettext("Attempt {number}").format(number=number)))
    return lines
