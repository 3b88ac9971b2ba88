"""The channel: it posts to the incoming webhook of a user, or to that of the site."""

from hashlib import sha256
from html import escape
from typing import Any

from asgiref.sync import sync_to_async
from django.urls import reverse
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from notifications.conf import settings
from notifications.extension import Channel, ChannelMessage, Verdict
from notifications.paths import absolute


class SlackChannel(Channel):
    label, preference_label = _("Slack"), _("in Slack")
    reasons = {"no-address": _("The user has no webhook of Slack.")}

    def addresses(self, user: Any) -> list[str]:  # Who knows a URL can post to it, so it is not shown.
        return [f"webhook {sha256(url.encode()).hexdigest()[:8]}"] if (url := webhook_of(user)) else []

    async def send(self, message: ChannelMessage) -> None:
        from notifications import outbound  # with aiohttp, in processes that send only

        (row,) = message.notifications
        link = absolute(row.url or reverse("notifications:inbox")).replace("|", "%7C")
        text = f"<{escape(link, False)}|{escape(row.title, False)}>\n{escape(row.body, False)}".strip()
        url = await sync_to_async(webhook_of)(message.user)
        (await outbound.post(url, json={"text": text}, deadline=20, retries=0)).raise_for_status()

    def judge(self, error: Exception) -> Verdict | None:  # no_service, channel_not_found, channel_is_archived
        return Verdict(False, True, is_dead=True) if getattr(error, "status", 0) in (404, 410) else None


def webhook_of(user: Any) -> str:
    url = settings.SLACK.get("webhook_url", "")
    return str(import_string(url)(user) or "") if url and "://" not in url else str(url)
