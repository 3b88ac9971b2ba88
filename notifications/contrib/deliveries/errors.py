"""What an error of sending says: in words, and may it pass, may the message have arrived, is the address dead."""

from __future__ import annotations

import re
import smtplib
import socket
import sys

#: Answers of HTTP APIs, which have the attribute ``status_code``, that may pass, besides 5xx.
PASSING_STATUS_CODES = {408, 425, 429}
#: Enhanced status codes (RFC 3463, RFC 7505) of addresses at which nothing will ever arrive.
DEAD_ADDRESS = re.compile(r"\s*5\.1\.(1|2|3|6|10)\b")


class DeviceGone(Exception):
    """The device is not subscribed any more, and was removed."""


def is_of_making(exc: BaseException) -> bool:
    """Return whether an error says that a message could not be made: no server was asked."""
    return type(exc) in (ConnectionError, ValueError)


def is_timeout(exc: BaseException) -> bool:
    """Return whether a server has not answered in time: ``smtplib`` reports that as a lost connection."""
    error: BaseException | None = None if is_of_making(exc) else exc
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def may_pass(exc: BaseException) -> bool:
    """Return whether an error of sending may pass: not for good answers like 550 of SMTP, and not for wrong values."""
    from notifications import outbound  # with aiohttp, in processes that send only

    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return all(code < 500 for code, _ in exc.recipients.values())
    if isinstance(exc, smtplib.SMTPDataError):
        return not 500 <= exc.smtp_code < 600
    if isinstance(exc, smtplib.SMTPResponseException):
        return True  # about the server, the password or the sender, which are not of this message
    if isinstance(exc, getattr(sys.modules.get("anymail.exceptions"), "AnymailRecipientsRefused", ())):
        return False  # it has no status
    if isinstance(exc, outbound.OutboundError) and not isinstance(exc, outbound.BadStatus):
        return not isinstance(exc, outbound.Refused)
    status = getattr(exc, "status" if isinstance(exc, outbound.BadStatus) else "status_code", None)
    if isinstance(status, int):
        return not 400 <= status < 500 or status in PASSING_STATUS_CODES
    return not isinstance(exc, ValueError | TypeError)


def is_certain(exc: BaseException) -> bool:
    """Return whether an error of sending says that nothing has arrived. Most breaks of a connection do not."""
    from notifications import outbound  # with aiohttp, in processes that send only

    refusals = (
        *(smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException, smtplib.SMTPNotSupportedError),
        *(outbound.BadStatus, outbound.Refused, outbound.CircuitOpen),
        *(ConnectionRefusedError, socket.gaierror, ValueError, TypeError),
    )
    # A plain ConnectionError is one of this app, which has sent nothing.
    has_status = isinstance(getattr(exc, "status_code", None), int)
    return isinstance(exc, refusals) or type(exc) is ConnectionError or has_status


def is_of_dead_address(exc: BaseException) -> bool:
    """Return whether a mail server has said that nothing will ever arrive at the address."""
    # Servers that know the address only when they have the message answer so to its final dot.
    answers = _answers(exc) if isinstance(exc, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) else []
    return bool(answers) and all(code >= 500 and DEAD_ADDRESS.match(text) for code, text in answers)


def describe_error(exc: BaseException) -> str:
    """Return an error of sending as one line: the answer of a server, or why there was none."""
    if answers := _answers(exc):
        return "; ".join(_as_line(f"{code} {text}") for code, text in answers)
    if isinstance(exc, smtplib.SMTPServerDisconnected):
        return "The mail server closed the connection without an answer."
    if isinstance(exc, socket.gaierror):
        return "The name of the server was not found."
    if isinstance(exc, OSError) and exc.strerror:
        return _as_line(exc.strerror)
    if isinstance(exc, TimeoutError):
        return "There was no answer in time."
    return _as_line(str(exc)) or type(exc).__name__


def _answers(exc: BaseException) -> list[tuple[int, str]]:
    """Return codes and texts of the answers of an SMTP server that an error has."""
    answers: list[tuple[int, bytes | str]] = []
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        answers = list(exc.recipients.values())
    elif isinstance(exc, smtplib.SMTPResponseException):
        answers = [(exc.smtp_code, exc.smtp_error)]
    return [
        (code, text.decode(errors="replace") if isinstance(text, bytes) else str(text))
        for code, text in answers
    ]


def _as_line(text: str) -> str:
    return " ".join(text.split())
