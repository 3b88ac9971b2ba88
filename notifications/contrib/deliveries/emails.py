"""The e-mails of notifications and digests.

Projects override their templates by name: ``notifications/email.txt`` and ``notifications/email.html``, and those of
digests, ``notifications/digest.txt`` and ``notifications/digest.html``.
"""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from email.headerregistry import HeaderRegistry, UnstructuredHeader
from email.policy import Policy
from email.policy import default as default_policy
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import punycode

from notifications import serializers
from notifications.compat import HAS_EMAIL_POLICIES, mail_backend
from notifications.conf import settings
from notifications.contrib.deliveries import unsubscribing
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.preferences import read_reader, zone_of
from notifications.db.threads import close_when_idle
from notifications.inbox.categories import load_categories
from notifications.models import Notification
from notifications.paths import absolute
from notifications.streams import icons

#: Seconds that a connection of the SMTP backend may take, where the project has set no timeout.
SMTP_TIMEOUT_SECONDS = 30
#: Messages that are sent by one connection. Servers limit them, the usual ones to 100.
MAX_PER_CONNECTION = 100
#: Seconds since the last message after which the server is asked whether the connection is still open.
NOOP_SECONDS = 1.0
#: What an SMTP server answers to NOOP (RFC 5321, section 4.2.3).
SMTP_OK = 250
#: Headers in which providers take a key by their SMTP servers: within a day they send no second message with the same.
IDEMPOTENCY_HEADERS = {"smtp.resend.com": "Resend-Idempotency-Key"}


#: Characters of the address in List-Unsubscribe: a line of a header has at most 998 (RFC 5322).
MAX_HEADER_URL_LENGTH = 998 - len("List-Unsubscribe: <>")

#: By level: the symbol, its color, and that of the disc around it.
DISCS = {
    "info": ("i", "#59636e", "#eceef0"),
    "success": ("✓", "#1a7040", "#e1eee6"),
    "warning": ("!", "#8a5a00", "#f4ebdb"),
    "error": ("✕", "#b3261e", "#f7e2e0"),
}


class _UnfoldedHeader(UnstructuredHeader):
    """A header in one line: Python encodes a longer URL, which RFC 8058 forbids, and the link would not work."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]  # HeaderRegistry adds it


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _UnfoldedHeader)  # type: ignore[arg-type]


class UnfoldedEmail(EmailMultiAlternatives):
    """An e-mail whose ``List-Unsubscribe`` is one line. Django 5.2 does not encode it."""

    def message(self, **options: Any) -> Any:
        if HAS_EMAIL_POLICIES:
            policy = options.get("policy", default_policy)
            options["policy"] = policy.clone(header_factory=_HEADERS)
        return super().message(**options)


def build_email(
    delivery: Delivery, row: Notification, user: Any, *, id: UUID | None = None
) -> EmailMultiAlternatives:
    """Return the e-mail of a notification. Renders templates, which may raise anything.

    Its ``Message-ID`` is that of ``id``, by default of the delivery.
    """
    category = load_categories().get(row.category)
    context = {
        "notification": row,
        "title": row.title,
        "body": row.body,
        "category": category.name,
        "url": absolute(row.url or reverse("notifications:inbox")),
        "disc": describe_disc(row),
    }
    return make_email(
        "email",
        delivery,
        user,
        id=id or delivery.id,
        categories=[category.key],
        subject=row.title,
        context=context,
    )


def describe_disc(row: Notification) -> dict[str, str]:
    """Return what stands before a notification: its symbol or the initials of its actor, their image, and its color.

    Programs for e-mail draw no SVG, so the symbol of a level is a letter or a sign.
    """
    name, image = icons.read_actor(serializers.read_data(row).get("actor"))
    symbol, color, tint = DISCS.get(row.level, DISCS["info"])
    initials = icons.read_initials(name)
    return {
        "symbol": initials or symbol,
        "image": absolute(image) if image else "",
        "color": color,
        "tint": tint,
    }


def make_email(
    template: str,
    delivery: Delivery,
    user: Any,
    *,
    id: UUID,
    categories: Sequence[str] | None,
    context: dict[str, Any],
    subject: str = "",
) -> EmailMultiAlternatives:
    """Return an e-mail to the address of a delivery, made from two templates of one name.

    They are rendered in the language of the delivery and the time zone of its user.

    Its ``Message-ID`` is that of ``id`` each time, so that programs recognize one that was sent twice. It has the
    headers for unsubscribing with one click (RFC 8058) from categories, None is all digests, unless all are required or
    they are too many for an address. Without a subject, its subject is the first line of the text.
    """
    language = delivery.language or django_settings.LANGUAGE_CODE
    zone = zone_of(read_reader(delivery.user_id))
    with translation.override(language), timezone.override(zone):
        headers = {"Message-ID": f"<{id}@{_host()}>", "Auto-Submitted": "auto-generated"}
        if url := _unsubscribe_url(delivery.user_id, categories):
            context["unsubscribe_url"] = url
            headers["List-Unsubscribe"] = f"<{_in_ascii(url)}>"
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        context |= {
            "user": user,
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
        to=[delivery.address],
        headers=headers,
    )
    email.attach_alternative(html, "text/html")
    return email


def _unsubscribe_url(user: Any, categories: Sequence[str] | None) -> str:
    """Return the address that ends e-mails of categories, None is all digests; empty if there can be none."""
    scope: unsubscribing.Scope = None
    if categories is not None:
        optional = sorted(key for key in categories if not load_categories().get(key).is_required)
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


def check_site_url() -> None:
    """Raise ConnectionError if links of messages would lead nowhere."""
    if not settings.SITE_URL:
        raise ConnectionError("NOTIFICATIONS['SITE_URL'] is empty, so there is no address for links.")


class _Connection(threading.local):
    """The connection of a thread to the server of e-mail, which is kept for its next messages."""

    backend: Any = None
    sent = 0
    #: When the last message was sent (monotonic).
    used_at = 0.0

    def open(self) -> Any:
        """Return an open backend: the one that is kept, if its server still answers."""
        if self.sent >= MAX_PER_CONNECTION or (self._is_old() and not _is_alive(self.backend)):
            self.close()
        if self.backend is None:
            backend = mail_backend()
            if getattr(backend, "timeout", 0) is None:  # SMTP would wait without end
                backend.timeout = SMTP_TIMEOUT_SECONDS
            if not close_when_idle(self.close):
                return backend  # which opens and closes its connection itself
            backend.open()
            self.backend, self.sent = backend, 0
        self.sent, self.used_at = self.sent + 1, time.monotonic()
        return self.backend

    def _is_old(self) -> bool:
        return time.monotonic() - self.used_at >= NOOP_SECONDS

    def close(self) -> None:
        """Close the connection, if one is kept."""
        backend, self.backend = self.backend, None
        if backend is not None:
            with suppress(Exception):  # it is broken
                backend.close()


_connection = _Connection()


def _is_alive(backend: Any) -> bool:
    """Return whether the server has not closed the connection: SMTP servers do so after some time."""
    noop = getattr(getattr(backend, "connection", None), "noop", None)
    try:
        return noop is None or noop()[0] == SMTP_OK
    except (OSError, smtplib.SMTPException):
        return False


def send_email(email: EmailMultiAlternatives) -> None:
    """Send an e-mail by the project's backend. Raises what it raises, and ``ConnectionError`` if it sends nothing.

    A thread for e-mails keeps its connection for ``MAX_PER_CONNECTION`` messages, or until it is idle.
    """
    backend = _connection.open()
    if header := IDEMPOTENCY_HEADERS.get(getattr(backend, "host", None) or ""):
        email.extra_headers[header] = email.extra_headers["Message-ID"].strip("<>")
    try:
        count = backend.send_messages([email])
    except BaseException:
        _connection.close()
        raise
    if count == 0:
        raise ConnectionError("The backend of e-mail has sent nothing, and has not said why.")
