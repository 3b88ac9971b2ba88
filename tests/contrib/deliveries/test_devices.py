"""The devices of users, and the key of the site."""

import base64
import json
from functools import partial
from io import StringIO
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from py_vapid import Vapid02

from notifications.conf import settings as app_settings
from notifications.contrib.deliveries import devices, vapid
from notifications.contrib.deliveries.models import PushSubscription
from tests.support.push_service import base64url, browser_keys
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)

ENDPOINT = "https://push.example/send/1"


def register(user, endpoint=ENDPOINT, **fields):
    fields = {"name": "Firefox on Linux", "language": "en", **browser_keys()[1], **fields}
    return devices.register(user.pk, endpoint, **fields)


@pytest.mark.database_law
def test_browser_that_confirms_its_subscription(user):
    """It stays one device, with its new keys. One that was removed meanwhile stays removed."""
    assert register(user, confirms=True) is None and not PushSubscription.objects.exists()
    first = register(user)
    again = register(user, name="Firefox 2", confirms=True)
    assert again.id == first.id and PushSubscription.objects.count() == 1
    assert again.created_at == first.created_at and again.seen_at > first.seen_at
    assert (again.name, again.p256dh == first.p256dh) == ("Firefox 2", False)
    assert [device.id for device in devices.of_user(user.pk)] == [first.id]


@pytest.mark.database_law
def test_browser_of_another_user(user, other_user):
    """Two who share a browser: it is the device of the last one."""
    first = register(user)
    second = register(other_user)
    assert second.id != first.id and devices.of_user(user.pk) == []
    assert not devices.remove(user.pk, second.id) and devices.remove(other_user.pk, second.id)
    assert not PushSubscription.objects.exists()


@pytest.mark.database_law
def test_changed_subscription(user, other_user):
    """The earlier one is removed, if it is of this user."""
    register(user)
    register(other_user, "https://push.example/other")
    register(user, "https://push.example/2", replaces=ENDPOINT)
    register(user, "https://push.example/3", replaces="https://push.example/other")
    endpoints = set(PushSubscription.objects.values_list("endpoint", flat=True))
    assert endpoints == {f"https://push.example/{name}" for name in ("2", "3", "other")}


@pytest.mark.database_law
def test_too_many_devices(user, other_user):
    for number in range(devices.MAX_DEVICES):
        register(user, f"https://push.example/{number}")
    with pytest.raises(devices.TooManyDevices):
        register(user)
    register(user, "https://push.example/3")  # confirms one
    register(user, "https://push.example/new", replaces="https://push.example/4")
    register(other_user)
    assert PushSubscription.objects.filter(user=user).count() == devices.MAX_DEVICES


@pytest.mark.database_law
def test_registrations_at_the_same_moment(user):
    """No more than ``MAX_DEVICES`` of 30 browsers are registered, and the others are refused."""
    refused, barrier = [], Barrier(30)

    def register_browser(number):
        barrier.wait(30)
        try:
            register(user, f"https://push.example/{number}")
        except devices.TooManyDevices:
            refused.append(number)

    run_in_threads(*(partial(register_browser, number) for number in range(30)))
    assert PushSubscription.objects.count() == devices.MAX_DEVICES and len(refused) == 10


@pytest.mark.database_law
def test_two_users_of_one_browser_at_the_same_moment(user, other_user):
    """It is the device of one of them, and neither request fails."""
    for number in range(20):
        endpoint, barrier = f"https://push.example/{number}", Barrier(2)

        def register_for(each, endpoint=endpoint, barrier=barrier):
            barrier.wait(30)
            assert register(each, endpoint).user_id == each.pk

        run_in_threads(partial(register_for, user), partial(register_for, other_user))
        assert PushSubscription.objects.filter(endpoint=endpoint).count() == 1
        PushSubscription.objects.all().delete()


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        None,
        7,
        "http://push.example/1",
        "ftp://push.example/1",
        "//push.example/1",
        "https://",
        "https://ada:secret@push.example/1",
        "https://push.example/1\r\nHost: internal",
        "https://push.example/\N{GRINNING FACE}",
        f"https://push.example/{'x' * 1000}",
        "https://push.example:99999/",
        "https://0x7f.1/",
        "https://127.0.0.1/1",
        "https://10.0.0.1/1",
        "https://169.254.169.254/1",
        "https://[::1]/1",
        "https://[::ffff:10.0.0.1]/1",
        "https://localhost/1",
        "https://push.localhost./1",
        "https://push.example:22/1",
        "javascript:alert(1)",
    ],
)
def test_wrong_endpoints(user, endpoint):
    with pytest.raises(devices.WrongSubscription, match="endpoint ") as raised:
        register(user, endpoint)
    assert raised.value.field == "endpoint" and not PushSubscription.objects.exists()


def test_endpoint_inside_the_network_that_is_allowed(user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": ["10.0.0.1:8443"]}
    assert register(user, "https://10.0.0.1:8443/1").endpoint == "https://10.0.0.1:8443/1"


@pytest.mark.parametrize(
    "fields",
    [
        {"p256dh": None},
        {"p256dh": ""},
        {"p256dh": "AAAA"},
        {"p256dh": base64url(b"\x04" + b"\x01" * 64)},  # not on the curve
        {"p256dh": base64url(b"\x05" + b"\x01" * 64)},
        {"p256dh": "A" * 10_000},
        {"p256dh": "é" * 87},
        {"auth": 5},
        {"auth": base64url(b"short")},
        {"auth": base64url(b"x" * 17)},
        {"auth": "+/+/+/+/+/+/+/+/+/+/+w"},
        {"auth": "\n" * 22},
    ],
)
def test_wrong_keys(user, fields):
    (field,) = fields
    with pytest.raises(devices.WrongSubscription) as raised:
        register(user, **fields)
    assert raised.value.field == field


def test_signatures(push_to, monkeypatch, private_key):
    """One an origin for six hours, valid for at most twelve; another one with another key."""
    push_to()
    clock = [1_000_000_000.0]
    monkeypatch.setattr(vapid.time, "time", lambda: clock[0])
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
    assert vapid.public_key(base64url(der)) == vapid.public_key(private_key)


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
    assert (printed, hint) == (f"{vapid.public_key(vapid.private_key())}\n", "")
    assert len(base64.urlsafe_b64decode(printed.strip() + "=")) == devices.P256DH_BYTES
    assert app_settings.WEB_PUSH["private_key"] not in run_vapid("--new")[0]


def test_command_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py_vapid", None)
    with pytest.raises(CommandError, match=r"asyncsite-notifications\[push\]"):
        run_vapid()
