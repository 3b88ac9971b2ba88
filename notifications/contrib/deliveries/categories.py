"""What ``NOTIFICATIONS["CATEGORIES"]`` says of deliveries: the choices of users who have chosen nothing, and duties."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import models
from django.utils.translation import gettext, pgettext_lazy

from notifications.conf import cached_until_changed
from notifications.contrib.deliveries.channels import BELL, list_channels
from notifications.extension import WrongDeclaration, hooks
from notifications.inbox import load_categories

logger = logging.getLogger("notifications")

EXAMPLE = '{"export": {"name": _("Exports"), "default": {"email": "daily"}}}'


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


@cached_until_changed("NOTIFICATIONS", "INSTALLED_APPS")
def find_category(key: str) -> Category:
    """Return a category, which need not be declared. What is wrong with its declaration is logged once in a process."""
    try:
        return _read_category(key)
    except ValueError as exc:
        logger.error("The defaults of a category are not valid: %r: %s", key, exc)
        return Category(key, load_categories().name(key))


def merge(keys: Sequence[str]) -> Category:
    """Return a category that stands for several, with their names."""
    names = (str(find_category(key).name or gettext("Others")) for key in keys)
    return Category(", ".join(keys), ", ".join(names))


def find_wrong_defaults() -> Iterator[WrongDeclaration]:
    """Yield W031: the defaults and duties of categories that are not valid."""
    for key in load_categories().declared:
        try:
            _read_category(key)
        except ValueError as exc:
            message = f"NOTIFICATIONS['CATEGORIES'][{key!r}]: {exc}"
            yield WrongDeclaration("notifications.W031", message, f"Write {EXAMPLE}.")


def _read_category(key: str) -> Category:
    categories = load_categories()
    value = categories.declared.get(key, {})
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
    return Category(key, categories.name(key), value.get("description", ""), required, dict(defaults))
