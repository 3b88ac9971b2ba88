"""The e-mail of a notification.

Projects override its templates, ``notifications/email.txt`` and ``notifications/email.html``, by name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.encoding import punycode

from notifications.compat import mail_backend
from notifications.conf import settings
from notifications.models import Delivery, Notification

#: Seconds that a connection of the SMTP backend may take, where the project has set no timeout.
SMTP_TIMEOUT_SECONDS = 30


def build_email(delivery: Delivery, row: Notification, user: Any) -> EmailMultiAlternatives:
    """Return the e-mail of a notification. Renders templates, which may raise anything.

    Its ``Message-ID`` is the same each time, so that programs recognize one that was sent twice.
    """
    with translation.override(delivery.language or django_settings.LANGUAGE_CODE):
        context = {
            "notification": row,
            "user": user,
            "title": row.title,
            "body": row.body,
            "url": absolute(row.url or reverse("notifications:inbox")),
            "inbox_url": absolute(reverse("notifications:inbox")),
            "site": urlsplit(settings.SITE_URL).netloc,
            "language": translation.get_language(),
            "is_right_to_left": translation.get_language_bidi(),
        }
        text = render_to_string("notifications/email.txt", context)
        html = render_to_string("notifications/email.html", context)
    host = punycode(urlsplit(settings.SITE_URL).hostname or "")
    email = EmailMultiAlternatives(
        subject=" ".join(row.title.split()),
        body=text,
        to=[delivery.address],
        headers={
            "Message-ID": f"<{delivery.id}@{host}>",
            "Auto-Submitted": "auto-generated",
        },
    )
    email.attach_alternative(html, "text/html")
    return email


def absolute(url: str) -> str:
    """Return a link of the site as one that works in an e-mail. The address of a request is never used."""
    return settings.SITE_URL.rstrip("/") + url if url.startswith("/") else url


def send_email(email: EmailMultiAlternatives) -> None:
    """Send an e-mail by the project's backend. Raises what it raises, and ``ConnectionError`` if it sends nothing."""
    backend = mail_backend()
    if getattr(backend, "timeout", 0) is None:  # SMTP would wait without end
        backend.timeout = SMTP_TIMEOUT_SECONDS
    if backend.send_messages([email]) == 0:
        raise ConnectionError("The backend of e-mail has sent nothing, and has not said why.")
