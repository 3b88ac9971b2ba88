"""Chat and SMS: channels of ``notifications.contrib.deliveries``.

providers     what each provider is sent, and what its answers mean
destinations  where the messages of a user go, as the settings say
channel       the channel of all of them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.contrib.chat.providers import PROVIDERS
from notifications.extension import Extension, Setting

#: The providers of ``CHAT``.
OTHERS = [name for name in PROVIDERS if name != "slack"]


def _is_slack(value: dict[str, Any]) -> bool:
    return not value or PROVIDERS["slack"].takes(value)


def _is_chat(value: dict[str, Any]) -> bool:
    return all(
        name in OTHERS and isinstance(options, dict) and PROVIDERS[name].takes(options)
        for name, options in value.items()
    )


class Chat(Extension):
    name = "notifications.contrib.chat"
    label = "notifications_chat"
    verbose_name = _("Chat and SMS")

    channels: ClassVar[Mapping[str, str]] = dict.fromkeys(
        PROVIDERS, "notifications.contrib.chat.channel.ChatChannel"
    )
    settings: ClassVar[Mapping[str, Setting]] = {
        "SLACK": Setting(
            {},
            is_valid=_is_slack,
            rule="{'webhook_url': the URL of an incoming webhook, or the dotted path of a function that takes a user "
            "and returns one}",
            is_secret=True,
        ),
        "CHAT": Setting(
            {},
            is_valid=_is_chat,
            rule="a dict of providers, each with a dict of texts: "
            + ", ".join(f"{name!r} with {PROVIDERS[name].describe_options()}" for name in OTHERS),
            is_secret=True,
        ),
    }
