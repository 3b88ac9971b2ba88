"""Where the messages of a user go, by the settings ``SLACK`` and ``CHAT``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings
from notifications.contrib.chat.providers import PROVIDERS
from notifications.db import import_path
from notifications.extension import WrongDeclaration


def options_of(name: str) -> Mapping[str, str]:
    """Return the options of a provider; none if it is not configured."""
    options: Mapping[str, str] = settings.SLACK if name == "slack" else settings.CHAT.get(name, {})
    return options


def is_for_all(name: str) -> bool:
    """Return whether all messages by a provider go to one destination, which the settings have."""
    provider = PROVIDERS[name]
    return provider.is_for_all(options_of(name).get(provider.address, ""))


def destination_of(name: str, user: Any) -> str:
    """Return where the messages of a user go by a provider, "" if nowhere. Calls code of the project."""
    value = options_of(name).get(PROVIDERS[name].address, "")
    if not value or is_for_all(name):
        return value
    return str(_import_function(value)(user) or "")


def find_wrong(name: str, *, is_used: bool) -> list[WrongDeclaration]:
    """Return what keeps messages from being sent by a provider. See ``Channel.find_wrong()``."""
    provider, setting = PROVIDERS[name], "['SLACK']" if name == "slack" else f"['CHAT'][{name!r}]"
    try:
        value = options_of(name).get(provider.address, "")
    except ImproperlyConfigured:  # which another check reports
        return []
    message = ""
    if is_used and not value:
        message = f"NOTIFICATIONS['DELIVERY'] has the channel {name!r}, and NOTIFICATIONS{setting} is empty."
    if value and not provider.is_for_all(value):
        try:
            _import_function(value)
        except ImproperlyConfigured as exc:
            message = f"NOTIFICATIONS{setting}: {provider.address} cannot be used: {exc}"
    hint = "Write where all messages go, or the dotted path of a function that takes a user and returns that."
    return [WrongDeclaration("notifications.W037", message, hint)] if message else []


def _import_function(path: str) -> Any:
    if not all(map(str.isidentifier, path.split("."))):  # a URL without its scheme is a secret too
        raise ImproperlyConfigured("It is neither a destination nor a dotted path.")
    try:
        function = import_path(path)
    except ImportError as exc:
        raise ImproperlyConfigured(str(exc)) from exc
    if not callable(function):
        raise ImproperlyConfigured(f"{path} cannot be called.")
    return function
