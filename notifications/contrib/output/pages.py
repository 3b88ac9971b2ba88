"""The output of a job as pages show it: its text, and the lines of the app in it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext

from notifications.contrib.output.reading import format_offset, has_output, read_end, read_part, read_span
from notifications.contrib.output.storage import MARK
from notifications.db import UNAVAILABLE
from notifications.exceptions import JobDoesNotExist
from notifications.extension import Event, Fact
from notifications.jobs import can_view
from notifications.models import Job, Notification

logger = logging.getLogger("notifications")

#: Bytes of the end of an output that others than its owner are shown, about.
MAX_END_BYTES = 64 * 1024
#: Lines and characters of the end of an output that e-mails have.
MAX_MESSAGE_LINES, MAX_MESSAGE_CHARS = 10, 1_000
#: Bytes of the end of an output that the admin shows, and those of its last chunk.
MAX_ADMIN_BYTES = 20_000
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


def describe_for_page(job: Job, request: HttpRequest) -> dict[str, Any]:
    """See ``JobSection.page_context()``."""
    if job.done and not has_output(job.id):
        return {}
    # {% notifications %} preloads the modules of the element.
    return {"output": read_output_text(request.user, job), "has_output": True}


def describe_end(job: Job) -> dict[str, Any]:
    """Return the last lines of the output, and the URL of all. See ``JobSection.excerpt_context()``."""
    text, is_cut = read_end(job.pk, MAX_END_BYTES, MARK)
    url = reverse("notifications:api-job-output", args=[job.pk]) if is_cut else ""
    return {"output": {"lines": _split_lines(text), "url": url}}


def describe_last_lines(job: Job) -> Fact | None:
    """See ``JobSection.message_fact()``."""
    text, _ = read_end(job.pk, MAX_MESSAGE_CHARS, MARK)
    written = "".join(text for mark, text in _split_lines(text) if not mark)
    last = "\n".join(written.rstrip().splitlines()[-MAX_MESSAGE_LINES:])
    return Fact(gettext("Latest output"), last[-MAX_MESSAGE_CHARS:], is_verbatim=True) if last else None


def describe_span(subject: Job | Notification, reader: Any) -> list[Event]:
    """Return when a job has written, from its first chunk to its last. See ``Extension.events_of()``."""
    if not isinstance(subject, Job) or (found := read_span(subject.pk)) is None:
        return []
    first, last, size = found
    text = gettext("Output, {size}").format(size=filesizeformat(size))
    return [Event(first, text, until=last)]


def describe_for_admin(job: Job, request: HttpRequest) -> dict[str, Any]:
    """See ``JobSection.admin_context()``."""
    if not can_view(request.user, "arguments"):
        return {}
    text, is_cut = read_end(job.pk, MAX_ADMIN_BYTES)
    return {"output": text, "is_output_cut": is_cut}


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
    except (Error, *UNAVAILABLE, SynchronousOnlyOperation) as exc:
        logger.debug("Could not read the output of job %s, which the script of the page reads: %s", id, exc)
        url = reverse("notifications:api-job-output", args=[id])
        return OutputText(
            job=id, url=url, offset="-1", lines=[], is_last=True, is_closed=False, is_cancelled=False
        )
    text, cut_marker = part.text, ""
    if not part.is_closed and (found := _MARK_BEGINNING.search(text)):
        text, cut_marker = text[: found.start()], found[0]
    return OutputText(
        job=id,
        url=reverse("notifications:api-job-output", args=[id]),
        offset=format_offset(part.end - len(cut_marker.encode())),
        lines=_split_lines(text),
        is_last=part.is_last,
        is_closed=part.is_closed,
        is_cancelled=getattr(job, "state", "") == "cancelled",
    )


def _split_lines(text: str) -> list[tuple[str, str]]:
    lines = []
    for index, piece in enumerate(_MARK.split(text)):
        if not index % 2:
            lines += [("", piece)] if piece else []
        else:
            name, _, number = piece.partition(" ")
            lines.append((name, gettext("Attempt {number}").format(number=number)))
    return lines
