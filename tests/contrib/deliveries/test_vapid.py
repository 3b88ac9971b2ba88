"""The key of the site for push messages: signatures, checks, and the command that makes one."""

import base64
import json
import time
from io import StringIO

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from py_vapid import Vapid02

from notifications.conf import settings as app_settings
from notifications.contrib.deliveries import vapid
from tests.support.push_service import base64url, public_key_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_signatures(push_to, monkeypatch, private_key):
    """One an origin for six hours, valid for at most twelve; another one with another key."""
    push_to()
    clock = [1_000_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    first = vapid.sign("https://push.example")
    assert Vapid02.verify(first) and vapid.sign("https://push.example") is first
    assert vapid.sign("https://other.example") != first
    for seconds in range(0, 30_000, 500):
        clock[0] = 1_000_000_000.0 + seconds
        token = vapid.sign("https://push.example").split(".")[1]
        left = json.loads(base64.urlsafe_b64decode(token + "=="))["exp"] - clock[0]
        assert 6 * 3600 <= left <= 12 * 3600
    assert vapid.sign("https://push.example") != first
    push_to(private_key=vapid.generate_private_key())
    assert vapid.public_key(vapid.private_key()) != vapid.public_key(private_key)


def test_keys_of_other_programs(push_to, private_key):
    """A key in DER, as `vapid --gen` makes them, is taken too."""
    number = int.from_bytes(base64.urlsafe_b64decode(private_key + "="), "big")
    key = ec.derive_private_key(number, ec.SECP256R1())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert vapid.public_key(base64url(der)) == public_key_of(private_key)


def found_checks():
    return [message for message in run_checks() if message.id in ("notifications.W032", "notifications.W033")]


def test_check_of_the_key(push_to, configure, private_key):
    push_to()
    assert found_checks() == []
    other_curve = ec.generate_private_key(ec.SECP384R1())
    der = other_curve.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for wrong in ("", "x", "A" * 43, base64url(der), private_key[:-4]):
        push_to(private_key=wrong)
        (found,) = found_checks()
        assert found.id == "notifications.W032" and "['private_key'] is not a private key" in found.msg
        assert not wrong or wrong not in found.msg.split()
    for wrong in ("", "admin@site.example", "mailto:", "https:", "mailto:a\nb"):
        push_to(subject=wrong)
        (found,) = found_checks()
        assert found.id == "notifications.W032" and "['subject'] is not an address" in found.msg


@pytest.mark.parametrize(
    "subject",
    [
        *(
            "mailto:admin@localhost",
            "mailto:admin@printer.local",
            "mailto:admin@site.invalid",
            "mailto:admin@SITE.Test",
        ),
        *(
            "https://localhost",
            "https://site.internal",
            "https://127.0.0.1",
        ),
        *("mailto: admin@example.com", "mailto:admin@example.com ", "mailto:<admin@example.com>"),
        *("mailto:Admin <admin@example.com>", "mailto:admin@@example.com"),
    ],
)
def test_check_of_a_subject_at_which_nobody_is_reached(push_to, subject):
    """It can be signed, and Apple's push service refuses it (403 BadJwtToken)."""
    push_to(subject=subject)
    found = [
        message for message in run_checks() if message.id in ("notifications.W032", "notifications.W052")
    ]
    assert [message.id for message in found] == ["notifications.W052"]
    assert subject in found[0].msg and "mailto:admin@example.com" in found[0].hint


@pytest.mark.parametrize(
    "subject",
    [
        *(
            "mailto:admin@example.com",
            "mailto:first.last+push@mail.example.co.uk",
            "MAILTO:admin@example.com",
        ),
        *(
            "https://example.com",
            "https://xn--bcher-kva.example",
        ),
    ],
)
def test_subjects_at_which_somebody_is_reached(subject):
    assert vapid.is_contact(subject)


def test_check_of_push_without_a_key(configure):
    configure([{"push": 0}])
    (found,) = found_checks()
    assert found.id == "notifications.W033"
    configure([{"email": 0}])
    assert found_checks() == []


@pytest.mark.parametrize(
    "value",
    [
        {"private_key": "secret-key"},
        {"private_key": "secret-key", "subject": 5},
        {"private_key": "secret-key", "subject": "mailto:a@b.example", "show_content": "secret-key"},
        {"private_key": "secret-key", "subject": "mailto:a@b.example", "other": 1},
        ["secret-key"],
    ],
)
def test_wrong_setting(settings, value):
    """Its error does not show the key."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEB_PUSH": value}
    (found,) = [message for message in run_checks() if "WEB_PUSH" in message.msg]
    assert "secret-key" not in found.msg + str(found.hint)


def run_vapid(*arguments):
    out, err = StringIO(), StringIO()
    call_command("notifications", "vapid", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_command(settings, monkeypatch):
    """It prints a key to paste, and then the public one."""
    line, hint = run_vapid()
    assert "Keep the key secret" in hint
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, **json.loads(f"{{{line.strip().rstrip(',')}}}")}
    assert found_checks() == []
    printed, hint = run_vapid()
    assert (printed, hint) == (f"{public_key_of(app_settings.WEB_PUSH['private_key'])}\n", "")
    assert len(base64.urlsafe_b64decode(printed.strip() + "=")) == 65
    assert app_settings.WEB_PUSH["private_key"] not in run_vapid("--new")[0]


def test_command_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py_vapid", None)
    with pytest.raises(CommandError, match=r"asyncsite-notifications\[push\]"):
        run_vapid()


def test_check_without_the_package(push_to, monkeypatch):
    """Its remedy is not that of a wrong key."""
    push_to()
    monkeypatch.setitem(__import__("sys").modules, "py_vapid", None)
    for cached in (vapid._load, vapid._sign):
        cached.cache_clear()
    (found,) = found_checks()
    assert found.id == "notifications.W032" and found.hint.startswith("Install it: pip install")
