"""The texts of a question in the languages of those who are asked, as ``USER_LANGUAGE`` says them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.utils import translation

from notifications.jobs.reader_languages import is_lazy, read_site_languages
from notifications.models import Wait


def translate(
    users: Sequence[Any], given: Sequence[Any], read: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return what the details of a question have besides: its texts by language, and the language of each user (key).

    ``given``
        The texts that the task has given. If none is lazy, all read them as they are.
    ``read``
        Returns the texts in the active language.
    """
    languages = read_site_languages(users) if is_lazy(given) else {}
    texts = {}
    for language in sorted(set(languages.values())):
        with translation.override(language):
            texts[language] = read()
    return {"texts": texts, "languages": {str(user): language for user, language in languages.items()}}


def in_language_of(details: Mapping[str, Any], user: Any) -> AbstractContextManager[None]:
    """Activate the language of a user (key) who was asked, if it is known."""
    language = details.get("languages", {}).get(str(user))
    return translation.override(language) if language else nullcontext()


def read_details(wait: Wait) -> dict[str, Any]:
    """Return the details of a question, with the texts in the active language if it has them."""
    return localize(json.loads(wait.details))


def localize(details: dict[str, Any]) -> dict[str, Any]:
    return {**details, **details.get("texts", {}).get(translation.get_language(), {})}
