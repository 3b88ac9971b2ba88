"""Slack: a channel of ``notifications.contrib.deliveries``.

channel   posts to the incoming webhook of a user, or of the site
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from notifications.conf import settings
from notifications.db import import_path
from notifications.extension import Extension, Setting, WrongDeclaration


def _is_slack(value: dict[str, Any]) -> bool:
    return not value or (value.keys() == {"webhook_url"} and isinstance(value["webhook_url"], str))


class Slack(Extension):
    name = "notifications.contrib.slack"
    label = "notifications_slack"
    verbose_name = _("Slack")

    channels: ClassVar[Mapping[str, str]] = {"slack": "notifications.contrib.slack.channel.SlackChannel"}
    settings: ClassVar[Mapping[str, Setting]] = {
        "SLACK": Setting(
            {},
            is_valid=_is_slack,
            rule="{'webhook_url': the URL of an incoming webhook, or the dotted path of a function that takes a user "
            "and returns one}",
            is_secret=True,
        ),
    }


def is_of_user() -> bool:
    """Return whether each user has a webhook, which they may have chosen, and not the site one for all."""
    return "://" not in settings.SLACK.get("webhook_url", "")


def webhook_of(user: Any) -> str:
    """Return the URL of the webhook of a user, "" if there is none. Calls code of the project."""
    url = settings.SLACK.get("webhook_url", "")
    return str(_import_function(url)(user) or "") if url and is_of_user() else str(url)


def find_wrong_webhook(*, is_used: bool) -> list[WrongDeclaration]:
    """Return what keeps messages from being posted. See ``Channel.find_wrong()``."""
    try:
        url = settings.SLACK.get("webhook_url", "")
    except ImproperlyConfigured:  # which another check reports
        return []
    message = ""
    if is_used and not url:
        message = "NOTIFICATIONS['DELIVERY'] has the channel 'slack', and NOTIFICATIONS['SLACK'] is empty."
    if url and "://" not in url:
        try:
            _import_function(url)
        except ImproperlyConfigured as exc:
            message = f"NOTIFICATIONS['SLACK']: webhook_url cannot be used: {exc}"
    hint = "Write the URL of an incoming webhook, or the dotted path of a function that takes a user and returns one."
    return [WrongDeclaration("notifications.W037", message, hint)] if message else []


def _import_function(path: str) -> Any:
    if not all(map(str.isidentifier, path.split("."))):  # a URL without its scheme is a secret too
        raise ImproperlyConfigured("It is neither a URL nor a dotted path.")
    try:
        function = import_path(path)
    except ImportError as exc:
        raise ImproperlyConfigured(str(exc)) from exc
    if not callable(function):
        raise ImproperlyConfigured(f"{path} cannot be called.")
    return function
