"""What each provider is sent, and what its answers mean.

Sources: the documentation of incoming webhooks of Slack, of workflows of Microsoft Teams and of Adaptive Cards 1.4, of
webhooks of Discord, of the Bot API of Telegram, and of the API of messages of Twilio with its dictionary of errors.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from django.utils.translation import gettext_lazy as _

#: Characters of a text message: three parts of 153, each of which costs. With a character that is not in GSM-7, of
#: which "…" is none, a part has 67. A longer link is left out.
MAX_SMS_CHARS, MAX_SMS_LINK_CHARS = 459, 200
#: Errors of Twilio: no number, one that asked for no more messages, one that is no mobile phone.
GONE_NUMBERS = (21211, 21610, 21614)


class Text(NamedTuple):
    """What a message says. ``link`` is an absolute URL."""

    title: str
    body: str
    link: str


class Provider:
    """A provider with one URL for each destination, which is secret.

    ``address``
        The option that says where messages go: for all users, or by the dotted path of a function that takes a user.
    ``required``, ``optional``
        Other options, as those of an account. All are texts.
    ``server``
        That of ``Channel``.
    """

    label: Any
    preference_label: Any
    no_address: Any
    address: ClassVar[str] = "webhook_url"
    required: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    server: ClassVar[str] = ""

    def takes(self, options: Mapping[str, Any]) -> bool:
        """Return whether these are its options."""
        names = {self.address, *self.required}
        is_text = all(isinstance(value, str) and value for value in options.values())
        return is_text and names <= options.keys() <= names | {*self.optional}

    def describe_options(self) -> str:
        return ", ".join(map(repr, (self.address, *self.required)))

    def is_for_all(self, destination: str) -> bool:
        """Return whether this is a destination itself, and not the dotted path of a function."""
        return "://" in destination

    def describe(self, destination: str) -> str:
        """Return what staff are shown of a destination. Who knows the URL of a webhook can post to it."""
        return f"webhook {sha256(destination.encode()).hexdigest()[:8]}"

    def request(self, options: Mapping[str, str], destination: str, text: Text) -> tuple[str, dict[str, Any]]:
        """Return the URL to post to, and what: arguments of ``outbound.post()``."""
        return destination, {"json": self.message(text)}

    def message(self, text: Text) -> dict[str, Any]:
        """Return the JSON that the provider takes."""
        raise NotImplementedError

    def is_gone(self, status: int, answer: Mapping[str, Any]) -> bool:
        """Return whether an error says that nothing will ever arrive at the destination."""
        return status in (404, 410)

    def retry_after(self, answer: Mapping[str, Any]) -> float | None:
        """Return the seconds that an answer asks to wait, if its headers do not say it."""
        return None


class Slack(Provider):
    label, preference_label = _("Slack"), _("in Slack")
    no_address = _("The user has no webhook of Slack.")

    def message(self, text: Text) -> dict[str, Any]:
        link = text.link.replace("|", "%7C")
        shown = f"<{escape(link, False)}|{escape(text.title, False)}>\n{escape(text.body, False)}"
        return {"text": shown.strip()}


class Teams(Provider):
    label, preference_label = _("Microsoft Teams"), _("in Microsoft Teams")
    no_address = _("The user has no webhook of Microsoft Teams.")

    def message(self, text: Text) -> dict[str, Any]:
        # Not a TextBlock, in which some texts would be Markdown.
        runs = [{"type": "TextRun", "text": text.title, "weight": "Bolder"}]
        blocks = [runs, *([[{"type": "TextRun", "text": text.body}]] if text.body else [])]
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [{"type": "RichTextBlock", "inlines": inlines} for inlines in blocks],
            "actions": [{"type": "Action.OpenUrl", "title": str(_("Open")), "url": text.link}],
        }
        kind = "application/vnd.microsoft.card.adaptive"
        return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


class Discord(Provider):
    label, preference_label = _("Discord"), _("in Discord")
    no_address = _("The user has no webhook of Discord.")

    def message(self, text: Text) -> dict[str, Any]:
        # In both some characters are Markdown, which a backslash before them undoes.
        title, body = (re.sub(r"([\\*_~`|>#\[\]()<@:-])", r"\\\1", part) for part in (text.title, text.body))
        embed = {"title": title[:256], "url": text.link, "description": body[:4096]}
        return {"embeds": [embed], "allowed_mentions": {"parse": []}}


class Telegram(Provider):
    label, preference_label = _("Telegram"), _("in Telegram")
    no_address = _("The user has no chat of Telegram.")
    address, required, optional = "chat_id", ("bot_token",), ("api_url",)
    server = "server of Telegram"

    def is_for_all(self, destination: str) -> bool:
        return bool(re.fullmatch(r"-?\d+|@\w+", destination))

    def describe(self, destination: str) -> str:
        return f"chat {destination}"

    def request(self, options: Mapping[str, str], destination: str, text: Text) -> tuple[str, dict[str, Any]]:
        api = options.get("api_url", "https://api.telegram.org").rstrip("/")
        # A word joiner after these, or they would begin a mention, a command or a tag, or be in a link.
        title, body = (
            re.sub("([@/#])", "\\1\u2060", escape(part, False)) for part in (text.title, text.body)
        )
        shown = f'<a href="{escape(text.link)}">{title}</a>\n{body}'
        message = {
            "chat_id": destination,
            "text": shown.strip(),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
        return f"{api}/bot{quote(options['bot_token'], safe=':')}/sendMessage", {"json": message}

    def is_gone(self, status: int, answer: Mapping[str, Any]) -> bool:
        # The person has blocked the bot, or has never written to it. A wrong token is a 401 or 404.
        return status == 403 or (status == 400 and "chat not found" in str(answer.get("description")))

    def retry_after(self, answer: Mapping[str, Any]) -> float | None:
        parameters = answer.get("parameters")
        seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
        return float(seconds) if isinstance(seconds, int | float) else None


class Sms(Provider):
    label, preference_label = _("SMS"), _("by SMS")
    no_address = _("The user has no phone number.")
    address, required, optional = "to", ("account_sid", "auth_token", "from"), ("api_url",)
    server = "server of Twilio"

    def is_for_all(self, destination: str) -> bool:
        return destination.startswith("+")

    def describe(self, destination: str) -> str:
        return destination

    def request(self, options: Mapping[str, str], destination: str, text: Text) -> tuple[str, dict[str, Any]]:
        api = options.get("api_url", "https://api.twilio.com").rstrip("/")
        account = options["account_sid"]
        link = f"\n{text.link}" if len(text.link) <= MAX_SMS_LINK_CHARS else ""
        words, limit = f"{text.title}\n{text.body}".strip(), MAX_SMS_CHARS - len(link)
        if len(words) > limit:
            words = f"{words[: limit - 3]}..."
        form = {"To": destination, "From": options["from"], "Body": f"{words}{link}"}
        credentials = b64encode(f"{account}:{options['auth_token']}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        url = f"{api}/2010-04-01/Accounts/{quote(account, safe='')}/Messages.json"
        return url, {"data": form, "headers": headers}

    def is_gone(self, status: int, answer: Mapping[str, Any]) -> bool:
        return answer.get("code") in GONE_NUMBERS


PROVIDERS: dict[str, Provider] = {
    "slack": Slack(),
    "teams": Teams(),
    "discord": Discord(),
    "telegram": Telegram(),
    "sms": Sms(),
}
