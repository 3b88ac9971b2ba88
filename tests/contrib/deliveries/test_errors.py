"""Which errors of a mail server may pass, and after which nothing has arrived."""

import smtplib

import pytest

from notifications.contrib.deliveries.errors import judge
from notifications.extension import hooks
from tests.contrib.deliveries.test_emails import ApiError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (RuntimeError("MaxRetryError of another library"), True),
        (TimeoutError(), True),
        (smtplib.SMTPServerDisconnected(), True),
        (smtplib.SMTPAuthenticationError(535, b"wrong"), True),
        (smtplib.SMTPDataError(451, b""), True),
        (smtplib.SMTPDataError(552, b"too large"), False),
        (smtplib.SMTPSenderRefused(550, b"", "a"), True),
        (smtplib.SMTPConnectError(554, b"No SMTP service here"), True),
        (smtplib.SMTPHeloError(550, b""), True),
        (smtplib.SMTPRecipientsRefused({"a": (450, b"")}), True),
        (smtplib.SMTPRecipientsRefused({"a": (550, b"")}), False),
        (ApiError(429), True),
        (ApiError(503), True),
        (ApiError(400), False),
        (ValueError("Header values can't contain newlines"), False),
    ],
)
def test_errors_that_may_pass(error, expected):
    assert judge(hooks.find_channel("email"), error).may_pass is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (smtplib.SMTPDataError(451, b""), True),
        (smtplib.SMTPRecipientsRefused({"a": (450, b"")}), True),
        (ApiError(503), True),
        (ValueError("The e-mail cannot be made"), True),
        (smtplib.SMTPServerDisconnected(), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (RuntimeError("MaxRetryError of another library"), False),
    ],
)
def test_errors_after_which_nothing_has_arrived(error, expected):
    assert judge(hooks.find_channel("email"), error).is_certain is expected
