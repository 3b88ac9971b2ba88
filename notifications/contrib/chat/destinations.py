"""Where the messages of a user go, by the settings ``SLACK`` and ``CHAT``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from notifications.conf import settings
from notifications.contrib.chat.services import SERVICES
from notifications.extension import WrongDeclaration


def options_of(name: str) -> Mapping[str, str]:
    """Return the options of a service; none if it is not configured."""
    options: Mapping[str, str] = settings.SLACK if name == "slack" else settings.CHAT.get(name, {})
    return options


def is_for_all(name: str) -> bool:
    """Return whether all messages by a service go to one destination, which the settings have."""
    service = SERVICES[name]
    return service.is_for_all(options_of(name).get(service.address, ""))


def destination_of(name: str, user: Any) -> str:
    """Return where the messages of a user go by a service, "" if nowhere. Calls code of the project."""
    value = options_of(name).get(SERVICES[name].address, "")
    if not value or is_for_all(name):
        return value
    return str(_import_function(value)(user) or "")


def find_wrong(name: str, *, is_used: bool) -> list[WrongDeclaration]:
    """Return what keeps messages from being sent by a service. See ``Channel.find_wrong()``."""
    service, setting = SERVICES[name], "['SLACK']" if name == "slack" else f"['CHAT'][{name!r}]"
    try:
        value = options_of(name).get(service.address, "")
    except ImproperlyConfigured:  # which another check reports
        return []
    message = ""
    if is_used and not value:
        message = f"NOTIFICATIONS['DELIVERY'] has the channel {name!r}, and NOTIFICATIONS{setting} is empty."
    if value and not service.is_for_all(value):
        try:
            _import_function(value)
        except ImproperlyConfigured as exc:
            message = f"NOTIFICATIONS{setting}: {service.address} cannot be used: {exc}"
    hint = "Write where all messages go, or the dotted path of a function that takes a user and returns that."
    return [WrongDeclaration("notifications.W037", message, hint)] if message else []


def _import_function(path: str) -> Any:
    if not all(map(str.isidentifier, path.split("."))):  # a URL without its scheme is a secret too
        raise ImproperlyConfigured("It is neither a destination nor a dotted path.")
    try:
        function = import_string(path)
    except Exception as exc:  # a module of the project may raise anything
        raise ImproperlyConfigured(f"{path} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not callable(function):
        raise ImproperlyConfigured(f"{path} cannot be called.")
    return function
