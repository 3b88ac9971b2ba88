"""The devices of users."""

from functools import partial
from threading import Barrier

import pytest

from notifications.contrib.deliveries import devices
from notifications.contrib.deliveries.models import PushSubscription
from tests.support.push_service import base64url, browser_keys
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

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
