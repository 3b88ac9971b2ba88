"""The texts and headers of the e-mails of notifications and digests.

Projects override their templates by name: ``notifications/email.txt`` and ``notifications/email.html``, and those of
digests, ``notifications/digest.txt`` and ``notifications/digest.html``.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.header import Header
from email.headerregistry import HeaderRegistry, UnstructuredHeader
from email.policy import Policy
from email.policy import default as default_policy
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import punycode
from django.utils.translation import gettext, ngettext

from notifications import validators
from notifications.conf import settings
from notifications.contrib.deliveries import unsubscribing
from notifications.contrib.deliveries.categories import find_category
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.preferences import read_reader
from notifications.contrib.deliveries.quiet_hours import zone_of
from notifications.db import database
from notifications.extension import ChannelMessage, Fact, hooks
from notifications.inbox import absolute, read_message_rows
from notifications.models import Notification, NotificationLevel

#: Characters of the address in List-Unsubscribe: a line of a header has at most 998 (RFC 5322).
MAX_HEADER_URL_LENGTH = 998 - len("List-Unsubscribe: <>")
MAX_SUBJECT_LENGTH = 200

#: By level: the symbol, its color, and that of the disc around it.
DISCS = {
    "info": ("i", "#59636e", "#eceef0"),
    "success": ("✓", "#1a7040", "#e1eee6"),
    "warning": ("!", "#8a5a00", "#f4ebdb"),
    "error": ("✕", "#b3261e", "#f7e2e0"),
}


#: Characters of the longest word that a subject has in plain ASCII. A line has 76 of them, ``Subject: `` among these.
MAX_PLAIN_WORD = 60


class _UnfoldedHeader(UnstructuredHeader):
    """A header in one line: Python encodes a longer URL, which RFC 8058 forbids, and the link would not work."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]  # HeaderRegistry adds it


class _Subject(UnstructuredHeader):
    """A text that is encoded as one, unless it is plain ASCII.

    Python encodes some words only, and loses or adds the spaces between these and the others. It also decodes what
    looks like an encoded word, and begins a line before a word that does not fit in one, with a space that some readers
    show where it is the first word.
    """

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse(value, kwds)
        kwds["decoded"] = value

    def fold(self, *, policy: Policy) -> str:
        text, name = str(self), self.name  # type: ignore[attr-defined]  # HeaderRegistry adds it
        is_plain = (
            text.isascii() and "=?" not in text and all(len(word) <= MAX_PLAIN_WORD for word in text.split())
        )
        charset = "us-ascii" if is_plain else "utf-8"
        encoded = Header(text, charset, header_name=name).encode(linesep=policy.linesep)
        return f"{name}: {encoded}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)  # type: ignore[arg-type]
_HEADERS.map_to_type("list-unsubscribe", _UnfoldedHeader)  # type: ignore[arg-type]


class UnfoldedEmail(EmailMultiAlternatives):
    """An e-mail whose ``List-Unsubscribe`` is one line, and whose subject arrives as it is. Django 5.2 does that."""

    def message(self, **options: Any) -> Any:
        if django.VERSION >= (6, 0):
            policy = options.get("policy", default_policy)
            options["policy"] = policy.clone(header_factory=_HEADERS)
        return super().message(**options)


def build_email(message: ChannelMessage) -> EmailMultiAlternatives:
    """Return the e-mail of a message. Renders templates, which may raise anything.

    A message that several could have joined is an e-mail like others if only one has.
    """
    if message.is_digest and not (message.is_joined and message.count == 1):
        return _build_digest(message)
    (row,) = message.notifications
    category = find_category(row.category)
    (shown,) = read_message_rows([row])
    outcome = shown.read_outcome()
    context = {"notification": row, "category": category.name, **_context_of(shown)}
    actions = _list_actions(shown)
    context |= {
        "url": context.pop("link"),
        "body": row.body,
        "preview": row.body,
        "actions": actions,
        "is_url_main": not any(action["is_main"] for action in actions)
        and not (actions and row.open_question),
        "has_failed": outcome is not None and outcome[1],
    }
    with translation.override(message.language or django_settings.LANGUAGE_CODE):
        subject = _describe_in_subject(row, *outcome) if outcome else row.title
    return _make_email("email", message, [category.key], context, subject=subject)


def _list_actions(shown: Any) -> list[dict[str, Any]]:
    """Return links to the pages of what a notification offers, of a question its choices.

    The first one is the main one, as on pages, unless the notification leads to a page of its own.
    Opening one changes nothing: programs follow the links of e-mails to examine them.
    """
    row = shown.notification
    has_main = bool(row.open_question) or not (row.url or row.job)
    return [
        {
            "label": action.label,
            "link": absolute(action.href),
            "is_main": has_main and number == 0 and not action.danger,
            "is_danger": bool(action.danger),
        }
        for number, action in enumerate(shown.actions())
    ]


def _describe_in_subject(row: Notification, outcome: str, has_failed: bool) -> str:
    """Return the title of the end of a job with its outcome: "Import failed: No answer"."""
    if not outcome:
        return row.title
    text = gettext("{title} failed: {outcome}") if has_failed else "{title}: {outcome}"
    return validators.shortened(text.format(title=row.title, outcome=outcome), MAX_SUBJECT_LENGTH)


def describe_disc(shown: Any) -> dict[str, str]:
    """Return what stands before a notification: its symbol or the initials of its actor, their image, and its color.

    Programs for e-mail draw no SVG, so the symbol of a level is a letter or a sign.
    """
    symbol, color, tint = DISCS.get(shown.level, DISCS["info"])
    is_question = bool(shown.notification.open_question) and shown.count == 1
    return {
        "symbol": shown.initials or ("?" if is_question else symbol),
        "level": shown.level,
        "image": shown.image,
        "color": color,
        "tint": tint,
    }


def _make_email(
    template: str,
    message: ChannelMessage,
    categories: Sequence[str] | None,
    context: dict[str, Any],
    *,
    subject: str = "",
) -> EmailMultiAlternatives:
    """Return an e-mail that is made from two templates of one name.

    They are rendered in the language of the message and the time zone of its user.

    Its ``Message-ID`` is the same each time, so that programs recognize one that was sent twice. It has the headers for
    unsubscribing with one click (RFC 8058) from categories, None is all digests, unless all are required or they are
    too many for an address. Without a subject, its subject is the first line of the text.
    """
    language = message.language or django_settings.LANGUAGE_CODE
    zone = zone_of(read_reader(message.user.pk))
    with translation.override(language), timezone.override(zone):
        headers = {"Message-ID": f"<{message.id}@{_host()}>", "Auto-Submitted": "auto-generated"}
        if url := _unsubscribe_url(message.user.pk, categories):
            context["unsubscribe_url"] = url
            headers["List-Unsubscribe"] = f"<{_in_ascii(url)}>"
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        context |= {
            "user": message.user,
            "facts": _read_facts(message) if template == "email" else [],
            "inbox_url": absolute(reverse("notifications:inbox")),
            "preferences_url": absolute(reverse("notifications:preferences")),
            "site": urlsplit(settings.SITE_URL).netloc,
            "language": translation.get_language(),
            "is_right_to_left": translation.get_language_bidi(),
        }
        text = render_to_string(f"notifications/{template}.txt", context)
        html = render_to_string(f"notifications/{template}.html", context)
    email = UnfoldedEmail(
        subject=" ".join((subject or text.strip().partition("\n")[0]).split()),
        body=text,
        to=[message.address],
        headers=headers,
    )
    email.attach_alternative(html, "text/html")
    return email


def _read_facts(message: ChannelMessage) -> list[Fact]:
    facts = hooks.read_facts(message.notifications[0], message.user, "email")
    return [fact._replace(url=absolute(fact.url)) for fact in facts]


def _unsubscribe_url(user: Any, categories: Sequence[str] | None) -> str:
    """Return the address that ends e-mails of categories, None is all digests; empty if there can be none."""
    scope: unsubscribing.Scope = None
    if categories is not None:
        optional = sorted(key for key in categories if not find_category(key).is_required)
        if not optional:
            return ""
        scope = optional[0] if len(optional) == 1 else optional
    token = unsubscribing.make_token(user, scope)
    url = absolute(reverse("notifications:unsubscribe", args=[token]))
    return url if len(_in_ascii(url)) <= MAX_HEADER_URL_LENGTH else ""


def _in_ascii(url: str) -> str:
    """Return a URL of the site with the name of its host as DNS has it: headers are ASCII."""
    site = urlsplit(settings.SITE_URL)
    return url.replace(site.netloc, _host() + (f":{site.port}" if site.port else ""), 1)


def _host() -> str:
    return punycode(urlsplit(settings.SITE_URL).hostname or "")


def _build_digest(message: ChannelMessage) -> EmailMultiAlternatives:
    """Return the e-mail of a digest: what waits for the user, what failed, and the others by category.

    The worst are first, of these the newest, and the first one is its subject. Those of a group are one row, as in the
    inbox.
    """

    def place(shown: Any) -> tuple[int, str]:  # those without a category come last
        if shown.notification.open_question:
            return 0, ""
        if shown.level == NotificationLevel.ERROR:
            return 1, ""
        category = shown.notification.category
        return (2, category) if category else (3, "")

    def weight(shown: Any) -> tuple[int, bool]:
        return min(2, place(shown)[0]), shown.level != NotificationLevel.WARNING

    # The id of a digest is that of its job.
    of_job = Delivery.objects.using(database()).filter(job=message.id, state=Delivery.State.QUEUED)
    sent = Notification.objects.using(database()).filter(id__in=of_job.values("notification"))
    with translation.override(message.language or django_settings.LANGUAGE_CODE):
        shown = read_message_rows(reversed(message.notifications), sent)
        headings = {0: gettext("Waiting for you"), 1: gettext("Failed")}
        groups = [
            (headings.get(number) or find_category(key).name, list(rows))
            for (number, key), rows in groupby(sorted(sorted(shown, key=weight), key=place), place)
        ]
        titles = [row.title for _, rows in groups for row in rows[:3]]
        summary = _summarize(sent)
        first = min(shown, key=weight)
        subject = first.title
        if others := message.count - first.count:
            text = ngettext("%(title)s and %(count)d more", "%(title)s and %(count)d more", others)
            title = validators.shortened(subject, MAX_SUBJECT_LENGTH - len(text))
            subject = text % {"title": title, "count": others}
    return _make_email(
        "digest",
        message,
        list(sent.order_by().values_list("category", flat=True).distinct()) if message.is_joined else None,
        {
            "groups": [(heading, [_context_of(row) for row in rows]) for heading, rows in groups],
            "count": message.count,
            "summary": summary,
            "preview": " · ".join([summary] * bool(summary) + titles[1:]),
            "hidden": max(0, message.count - sum(row.count for row in shown)),
            "is_throttled": message.is_joined,
        },
        subject=subject,
    )


def _summarize(rows: Any) -> str:
    """Return how many questions and failures are among notifications, "" if there are none."""
    questions = rows.filter(open_question__isnull=False).count()
    failed = rows.filter(open_question=None, level=NotificationLevel.ERROR).count()
    texts = (
        (questions, ngettext("%(count)d question", "%(count)d questions", questions)),
        (failed, ngettext("%(count)d failed", "%(count)d failed", failed)),
    )
    return ", ".join(text % {"count": count} for count, text in texts if count)


def _context_of(shown: Any) -> dict[str, Any]:
    return {
        "title": shown.title,
        "body": shown.body,
        "link": shown.link,
        "created_at": shown.notification.raised_at,
        "disc": describe_disc(shown),
    }
