"""The languages of a broadcast: what is written for each, and which one a reader gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.utils import translation

from notifications.conf import settings
from notifications.contrib.broadcasts.models import Broadcast

#: Languages in which a message can be written besides that of the site.
MAX_LANGUAGES = 20


def offered_languages() -> list[tuple[str, str]]:
    """Return code and name of each of ``LANGUAGES`` but ``LANGUAGE_CODE``, none without ``USER_LANGUAGE``."""
    if not settings.USER_LANGUAGE:
        return []
    others = [code for code, _name in django_settings.LANGUAGES if code != django_settings.LANGUAGE_CODE]
    return [(code, _name_of(code)) for code in others[:MAX_LANGUAGES]]


def read_languages(keys: Sequence[Any]) -> dict[Any, str]:
    """Return the language of each of these users, in one query; none without ``USER_LANGUAGE``."""
    if not settings.USER_LANGUAGE:
        return {}
    users = get_user_model()._base_manager.filter(pk__in=keys)
    return {key: language or "" for key, language in users.values_list("pk", settings.USER_LANGUAGE)}


class Texts:
    """Title and body of a broadcast in each language."""

    def __init__(self, row: Broadcast) -> None:
        self.own = (row.title, row.body)
        self.others = {
            code: (text["title"], text["body"]) for code, text in json.loads(row.translations).items()
        }

    def choose(self, language: str) -> tuple[str, str]:
        """Return title and body for a reader: in this language, else in the one without its region, else the site's."""
        return self.others.get(language) or self.others.get(language.partition("-")[0]) or self.own


def _name_of(code: str) -> str:
    try:
        return str(translation.get_language_info(code)["name_translated"]).capitalize()
    except KeyError:
        return code
