"""E-mail: a channel that sends by the project's backend."""

from __future__ import annotations

import re
import smtplib
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from notifications.contrib.deliveries.email_texts import build_email
from notifications.db import catching, is_unavailable
from notifications.db.threads import close_when_idle
from notifications.extension import Channel, ChannelMessage, Verdict

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
#: Enhanced status codes (RFC 3463, RFC 7505) of addresses at which nothing will ever arrive.
DEAD_ADDRESS = re.compile(r"\s*5\.1\.(1|2|3|6|10)\b")


class Email(Channel):
    label, preference_label = _("e-mail"), _("by e-mail")
    has_digests, server = True, "mail server"
    reasons = {
        "no-address": _("The user has no valid e-mail address."),
        "dead-address": _("A mail server had refused the address for good."),
    }

    def addresses(self, user: Any) -> list[str]:
        return valid_addresses(getattr(user, getattr(user, "EMAIL_FIELD", "email"), None))

    def user_fields(self) -> list[str]:
        return [getattr(get_user_model(), "EMAIL_FIELD", "email")]

    def find_addresses(self, users: Mapping[Any, Sequence[Any]]) -> dict[Any, list[str]]:
        return {key: valid_addresses(address) for key, (address,) in users.items()}

    def send(self, message: ChannelMessage) -> None:
        with catching() as caught:
            email = build_email(message)
        if exc := caught.error:
            if is_unavailable(exc):  # without a free descriptor
                raise ConnectionError(f"The e-mail cannot be made now: {type(exc).__name__}: {exc}") from exc
            raise ValueError(f"The e-mail cannot be made: {type(exc).__name__}: {exc}") from exc
        send_email(email)

    def judge(self, error: Exception) -> Verdict | None:
        answers = read_answers(error)
        text = "; ".join(" ".join(f"{code} {answer}".split()) for code, answer in answers)
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            may_pass = all(code < 500 for code, _ in answers)
            return Verdict(may_pass, True, _are_of_dead_address(answers), text)
        if isinstance(error, smtplib.SMTPDataError):
            # Servers that know the address only when they have the message answer so to its final dot.
            return Verdict(not 500 <= error.smtp_code < 600, True, _are_of_dead_address(answers), text)
        if isinstance(error, smtplib.SMTPResponseException):
            # About the server, the password or the sender, which are not of this message.
            return Verdict(True, True, text=text)
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return Verdict(True, True)
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return Verdict(text="The mail server closed the connection without an answer.")
        if isinstance(error, getattr(sys.modules.get("anymail.exceptions"), "AnymailRecipientsRefused", ())):
            return Verdict(False)  # it has no status
        return None


def valid_addresses(address: Any) -> list[str]:
    """Return an address, nothing if it is not valid."""
    try:
        validate_email(address)
    except (ValidationError, TypeError):
        return []
    return [str(address)]


def read_answers(error: Exception) -> list[tuple[int, str]]:
    """Return codes and texts of the answers of an SMTP server that an error has."""
    answers: list[tuple[int, bytes | str]] = []
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = list(error.recipients.values())
    elif isinstance(error, smtplib.SMTPResponseException):
        answers = [(error.smtp_code, error.smtp_error)]
    return [
        (code, text.decode(errors="replace") if isinstance(text, bytes) else str(text))
        for code, text in answers
    ]


def _are_of_dead_address(answers: Sequence[tuple[int, str]]) -> bool:
    return bool(answers) and all(code >= 500 and DEAD_ADDRESS.match(text) for code, text in answers)


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
            backend = _mail_backend()
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
            with suppress(OSError, smtplib.SMTPException):  # it is broken
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
    with ExitStack() as on_error:
        on_error.callback(_connection.close)
        count = backend.send_messages([email])
        on_error.pop_all()
    if count == 0:
        raise ConnectionError("The backend of e-mail has sent nothing, and has not said why.")


def _mail_backend() -> Any:
    """Return a backend of e-mail: ``MAILERS["default"]`` of Django 6.1, or that of ``EMAIL_BACKEND``."""
    from django.core import mail

    return mail.mailers.default if hasattr(mail, "mailers") else mail.get_connection()
