"""The categories that the project declares in ``NOTIFICATIONS["CATEGORIES"]``, and their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import Promise

from notifications.conf import WrongDeclaration, cached_until_changed, settings
from notifications.validators import MAX_NAME_LENGTH

logger = logging.getLogger("notifications")

#: The category of alerts of this app.
ALERTS = "alert"

#: What a declaration may have. What the others mean is for the app that delivers.
KEYS = {"name", "description", "required", "default"}


@lru_cache(maxsize=1_000)
def _make_name(key: str) -> str:
    """Return "Release notes" for ``release_notes``; what is no such identifier stays as it is."""
    words = re.sub(r"[_.-]", " ", key)
    return words.capitalize() if re.fullmatch(r"[a-z0-9 ]*", words) and " " not in key else key


def _find_problem(key: Any, value: Any) -> str:
    """Return what is wrong with a declaration, "" if nothing is."""
    if not isinstance(key, str) or len(key) > MAX_NAME_LENGTH:
        return f"A category is a text of at most {MAX_NAME_LENGTH} characters."
    if not isinstance(value, Mapping) or set(value) - KEYS:
        return f"{value!r} is not a dict with the keys {', '.join(sorted(KEYS))}."
    texts = value.get("name", ""), value.get("description", "")
    return "" if all(isinstance(text, str | Promise) for text in texts) else "name and description are texts."


class Categories:
    """The valid declarations by key. ``wrong`` is what is wrong with the others."""

    def __init__(self, declared: Mapping[Any, Any]) -> None:
        self.declared: dict[str, Mapping[str, Any]] = {}
        self.wrong: list[WrongDeclaration] = []
        for key, value in declared.items():
            if problem := _find_problem(key, value):
                message = f"NOTIFICATIONS['CATEGORIES'][{key!r}]: {problem}"
                hint = 'Write {"export": {"name": _("Exports")}}.'
                self.wrong.append(WrongDeclaration("notifications.W031", message, hint))
            else:
                self.declared[key] = value

    def name(self, key: str) -> Any:
        """Return the name of a category; that of one that has none is made from its key."""
        return self.declared.get(key, {}).get("name", _make_name(key))

    def sort_by_name(self, keys: Iterable[str]) -> list[str]:
        """Return the keys of categories in the order in which a reader looks for them."""
        return sorted(keys, key=lambda key: (str(self.name(key)).casefold(), key))


def read_categories() -> Categories:
    try:
        return Categories(settings.CATEGORIES)
    except ImproperlyConfigured:  # not a dict, which another check reports
        return Categories({})


@cached_until_changed("NOTIFICATIONS", "INSTALLED_APPS")
def load_categories() -> Categories:
    """Return the declared categories. What is wrong with them is logged by the first call in a process."""
    categories = read_categories()
    for wrong in categories.wrong:
        logger.error("A category is not declared: %s %s", wrong.message, wrong.hint)
    return categories
