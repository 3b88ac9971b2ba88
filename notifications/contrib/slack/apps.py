"""Slack: a channel of ``notifications.contrib.deliveries``.

channel   posts to the incoming webhook of a user, or of the site
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, Setting


def _is_slack(value: dict[str, Any]) -> bool:
    return not value or (value.keys() == {"webhook_url"} and isinstance(value["webhook_url"], str))


class Slack(Extension):
    name = "notifications.contrib.slack"
    label = "notifications_slack"
    verbose_name = _("Slack")

    requires = ("notifications.contrib.deliveries",)
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
