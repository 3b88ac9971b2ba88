"""The channel of all providers: it posts a message where the settings say."""

from typing import Any

from asgiref.sync import sync_to_async
from django.urls import reverse

from notifications.contrib.chat import destinations
from notifications.contrib.chat.providers import PROVIDERS, Text
from notifications.extension import Channel, ChannelMessage, Verdict
from notifications.inbox import absolute


class ChatChannel(Channel):
    """The channel of one of ``PROVIDERS``, whose name it has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.provider = PROVIDERS[name]
        self.label, self.preference_label = self.provider.label, self.provider.preference_label
        self.reasons = {"no-address": self.provider.no_address}  # type: ignore[misc]
        self.server = self.provider.server  # type: ignore[misc]

    def find_wrong(self, *, is_used: bool) -> Any:
        return destinations.find_wrong(self.name, is_used=is_used)

    def addresses(self, user: Any) -> list[str]:
        found = destinations.destination_of(self.name, user)
        return [self.provider.describe(found)] if found else []

    async def send(self, message: ChannelMessage) -> None:
        from notifications import outbound  # with aiohttp, in processes that send only

        (row,) = message.notifications
        text = Text(row.title, row.body, absolute(row.url or reverse("notifications:inbox")))
        destination = await sync_to_async(destinations.destination_of)(self.name, message.user)
        url, options = self.provider.request(destinations.options_of(self.name), destination, text)
        is_user_url = url == destination and not destinations.is_for_all(self.name)
        response = await outbound.post(
            url, **options, deadline=20, retries=0, follow_redirects=False, is_user_url=is_user_url
        )
        try:
            response.raise_for_status()
        except outbound.BadStatus as error:
            try:
                answer = response.json()
            except outbound.BadResponse:
                answer = None
            answer = answer if isinstance(answer, dict) else {}
            error.retry_after = error.retry_after or self.provider.retry_after(answer)
            error.is_gone = self.provider.is_gone(response.status, answer)  # type: ignore[attr-defined]
            raise
        if response.status >= 300:  # A GET of a page, which has posted nothing, would follow.
            raise ValueError("The provider redirects to another address, which is not followed.")

    def judge(self, error: Exception) -> Verdict | None:
        return Verdict(False, True, is_dead=True) if getattr(error, "is_gone", False) else None
