"""What an error of sending says: may it pass, may the message have arrived, and is the address dead."""

from __future__ import annotations

import re
import smtplib
import socket
import sys

#: Answers of HTTP APIs, which have the attribute ``status_code``, that may pass, besides 5xx.
PASSING_STATUS_CODES = {408, 425, 429}
#: Enhanced status codes (RFC 3463, RFC 7505) of addresses at which nothing will ever arrive.
DEAD_ADDRESS = re.compile(rb"\s*5\.1\.(1|2|3|6|10)\b")


def may_pass(exc: BaseException) -> bool:
    """Return whether an error of sending may pass: not for good answers like 550 of SMTP, and not for wrong values."""
    from notifications import outbound  # with aiohttp, in processes that send only

    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return all(code < 500 for code, _ in exc.recipients.values())
    if isinstance(exc, smtplib.SMTPAuthenticationError):
        return True  # a password that is wrong now
    if isinstance(exc, smtplib.SMTPResponseException):
        return not 500 <= exc.smtp_code < 600
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
    if not isinstance(exc, smtplib.SMTPRecipientsRefused):
        return False
    answers = [text if isinstance(text, bytes) else str(text).encode() for _, text in exc.recipients.values()]
    return bool(answers) and all(map(DEAD_ADDRESS.match, answers))
