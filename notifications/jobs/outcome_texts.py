"""What the owner reads of the end of a job whose task has no text of its own, in the language of the job.

To activate a language and translate a text took as long as the rest of a notification, so texts are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.models import Job, Notification

#: Significant digits of a float: more show how it is stored, as 0.1 + 0.2 does.
FLOAT_DIGITS = 15


def describe_success(value: Any, language: str) -> str:
    """Return what came of a task that returned ``value``: "5", "12 rows" of a list, or that it succeeded.

    Numbers and counts only: a text, or a key of a dict, may be a secret.
    """
    kind = type(value)
    if kind is int and not settings.USE_THOUSAND_SEPARATOR:
        return str(value)
    if kind is int or kind is float:
        return _number_text(value, language)
    if kind is list or kind is tuple:
        return _rows_text(len(value), language)
    return succeeded_text(language)


@lru_cache(maxsize=1024, typed=True)
def _number_text(value: float, language: str) -> str:
    if isinstance(value, float):
        value = float(f"{value:.{FLOAT_DIGITS}g}")
    with translation.override(language or None):
        return number_format(value)


@lru_cache(maxsize=1024)
def _rows_text(count: int, language: str) -> str:
    with translation.override(language or None):
        return ngettext("%(count)s row", "%(count)s rows", count) % {"count": number_format(count)}


@lru_cache(maxsize=128)
def succeeded_text(language: str) -> str:
    with translation.override(language or None):
        return _("Succeeded.")


@lru_cache(maxsize=128)
def stopped_text(language: str) -> str:
    with translation.override(language or None):
        return _("The job stopped because of an error.")


@lru_cache(maxsize=128)
def cancelled_error(language: str) -> tuple[dict[str, str], str]:
    """Return the error of a cancelled job, and as JSON. To translate it took a third of a cancellation's CPU time."""
    with translation.override(language or None):
        error = {"type": "cancelled", "title": _("Cancelled"), "detail": _("It was cancelled.")}
    return error, json.dumps(error, ensure_ascii=False)


def describe_failure(job: Job, error: Mapping[str, Any]) -> str:
    """Return the body of the notification of a failure, without the id of the job, which its page has."""
    detail = str(error.get("detail") or error.get("title", ""))
    return stopped_text(job.language) if str(job.id) in detail else detail


def read_told_outcome(job: Job, end: Notification | None, error: Mapping[str, Any] | None) -> str:
    """Return what came of a job in the words of its task, "" if that has given none.

    ``end``
        The notification of its end, which has them as its body, or else as its title.
    """
    if end is None:
        return ""
    default = describe_failure(job, error) if error else succeeded_text(job.language)
    if end.body not in ("", default):
        return end.body
    return end.title if end.title != job.title else ""
