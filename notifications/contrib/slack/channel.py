"""The channel: it posts to the incoming webhook of a user, or to that of the site."""

from hashlib import sha256
from html import escape
from typing import Any

from asgiref.sync import sync_to_async
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from notifications.contrib.slack.apps import find_wrong_webhook, is_of_user, webhook_of
from notifications.extension import Channel, ChannelMessage, Verdict
from notifications.inbox import absolute


class SlackChannel(Channel):
    label, preference_label = _("Slack"), _("in Slack")
    reasons = {"no-address": _("The user has no webhook of Slack.")}
    find_wrong = staticmethod(find_wrong_webhook)

    def addresses(self, user: Any) -> list[str]:  # Who knows a URL can post to it, so it is not shown.
        return [f"webhook {sha256(url.encode()).hexdigest()[:8]}"] if (url := webhook_of(user)) else []

    async def send(self, message: ChannelMessage) -> None:
        from notifications import outbound  # with aiohttp, in processes that send only

        (row,) = message.notifications
        link = absolute(row.url or reverse("notifications:inbox")).replace("|", "%7C")
        text = f"<{escape(link, False)}|{escape(row.title, False)}>\n{escape(row.body, False)}".strip()
        url, json = await sync_to_async(webhook_of)(message.user), {"text": text}
        response = await outbound.post(
            url, json=json, deadline=20, retries=0, follow_redirects=False, is_user_url=is_of_user()
        )
        if (
            response.raise_for_status().status >= 300
        ):  # A GET of a page, which has posted nothing, would follow.
            raise ValueError("The webhook redirects to another address, which is not followed.")

    def judge(self, error: Exception) -> Verdict | None:  # no_service, channel_not_found, channel_is_archived
        return Verdict(False, True, is_dead=True) if getattr(error, "status", 0) in (404, 410) else None
