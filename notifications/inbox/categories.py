"""The categories that the project declares in ``NOTIFICATIONS["CATEGORIES"]``, with names and defaults."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext, pgettext_lazy

from notifications.conf import WrongDeclaration, cached_until_changed, settings
from notifications.extension import hooks
from notifications.validators import MAX_NAME_LENGTH

logger = logging.getLogger("notifications")

#: The bell, toasts and the inbox. What is switched off is kept there as read.
BELL = "bell"


class Choice(models.TextChoices):
    """What a user can choose for a category and a channel."""

    ON = "on", pgettext_lazy("preference", "each one")
    HOURLY = "hourly", pgettext_lazy("preference", "every hour, together")
    DAILY = "daily", pgettext_lazy("preference", "every day, together")
    WEEKLY = "weekly", pgettext_lazy("preference", "every week, together")
    OFF = "off", pgettext_lazy("preference", "never")

    @classmethod
    def of_channel(cls, channel: str) -> tuple[str, ...]:
        """Return what a user can choose for a channel, nothing if there is no such channel."""
        if channel not in list_channels():
            return ()
        has_digests = channel != BELL and hooks.find_channel(channel).has_digests
        return tuple(cls.values) if has_digests else (str(cls.ON), str(cls.OFF))


#: The category of alerts of this app.
ALERTS = "alert"

EXAMPLE = '{"export": {"name": _("Exports"), "default": {"email": "daily"}}}'
KEYS = {"name", "description", "required", "default"}


def list_channels() -> list[str]:
    """Return by what users are notified: the bell, and the channels of installed apps."""
    return [BELL, *hooks.channels]


class Category(NamedTuple):
    """A category, as preferences show it.

    ``is_required``
        Users cannot switch it off: it goes by each channel at once.
    ``defaults``
        The choices by channel of users who have chosen nothing; ``on`` where there is none.
    """

    key: str
    name: Any
    description: Any = ""
    is_required: bool = False
    defaults: Mapping[str, str] = {}

    def choice(self, channel: str, chosen: str | None) -> str:
        """Return what is in force if a user has chosen this, or nothing."""
        if self.is_required:
            return str(Choice.ON)
        return chosen or self.defaults.get(channel, str(Choice.ON))


@lru_cache(maxsize=1_000)
def _make_name(key: str) -> str:
    """Return "Release notes" for ``release_notes``; what is no such identifier stays as it is."""
    words = re.sub(r"[_.-]", " ", key)
    return words.capitalize() if re.fullmatch(r"[a-z0-9 ]*", words) and " " not in key else key


def _read_category(key: Any, value: Any) -> Category:
    if not isinstance(key, str) or len(key) > MAX_NAME_LENGTH:
        raise ValueError(f"A category is a text of at most {MAX_NAME_LENGTH} characters.")
    if not isinstance(value, Mapping) or set(value) - KEYS:
        raise ValueError(f"{value!r} is not a dict with the keys {', '.join(sorted(KEYS))}.")
    name, description = value.get("name", _make_name(key)), value.get("description", "")
    if not all(isinstance(text, str | Promise) for text in (name, description)):
        raise ValueError("name and description are texts.")
    required, defaults = value.get("required", False), value.get("default", {})
    if not isinstance(required, bool):
        raise ValueError(f"required is {required!r}. It must be True or False.")
    if not isinstance(defaults, Mapping):
        raise ValueError(f'default is {defaults!r}. It must be a dict like {{"email": "daily"}}.')
    for channel, choice in defaults.items():
        if channel not in list_channels():
            raise ValueError(f"There is no channel {channel!r}. Channels: {', '.join(list_channels())}.")
        if choice not in Choice.of_channel(channel):
            raise ValueError(
                f"The default of {channel} is {choice!r}. It must be one of {', '.join(Choice.of_channel(channel))}."
            )
    if required and defaults:
        raise ValueError("A required category has no default: it goes by each channel at once.")
    return Category(key, name, description, required, dict(defaults))


class Categories:
    """The valid declarations by key. ``wrong`` is what is wrong with the others."""

    def __init__(self, declared: Mapping[Any, Any]) -> None:
        self.declared: dict[str, Category] = {}
        self.wrong: list[WrongDeclaration] = []
        for key, value in declared.items():
            try:
                self.declared[key] = _read_category(key, value)
            except ValueError as exc:
                message = f"NOTIFICATIONS['CATEGORIES'][{key!r}]: {exc}"
                self.wrong.append(WrongDeclaration("notifications.W031", message, f"Write {EXAMPLE}."))

    def get(self, key: str) -> Category:
        """Return a category, one that is not declared with a name that is made from its key."""
        return self.declared.get(key) or Category(key, _make_name(key))

    def merge(self, keys: Sequence[str]) -> Category:
        """Return a category that stands for several, with their names."""
        return Category(
            ", ".join(keys), ", ".join(str(self.get(key).name or gettext("Others")) for key in keys)
        )

    def sort_by_name(self, keys: Iterable[str]) -> list[str]:
        """Return the keys of categories in the order in which a reader looks for them."""
        return sorted(keys, key=lambda key: (str(self.get(key).name).casefold(), key))


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
