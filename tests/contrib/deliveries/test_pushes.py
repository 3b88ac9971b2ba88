"""Push messages, as a push service receives them, and what follows from its answers."""

import subprocess
import sys
import threading
import time

import pytest
from django.db import transaction
from django.utils import timezone, translation

from notifications import times
from notifications.api import notify
from notifications.contrib.deliveries import pushes
from notifications.contrib.deliveries.models import Delivery, PushSubscription, Reader
from notifications.inbox import read_timeline
from notifications.models import Attempt, Job, Notification, Wait
from notifications.outbound import gates
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.deliveries.conftest import choose, send_all, send_due
from tests.contrib.deliveries.test_rules import mute
from tests.contrib.questions import question_tasks
from tests.support.checks import doctor
from tests.support.push_service import public_key_of
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]


def push(user, title="The export is ready", **fields):
    """Notify a user, and return the id of the notification."""
    return notify(user, title, **fields)[0]


def states():
    """Return the states of deliveries by their addresses."""
    return dict(Delivery.objects.values_list("address", "state"))


def test_message(user, service, private_key):
    device = service.add_device(user)
    id = push(user, body="12,400 rows", url="/exports/1/")
    for _ in range(2):
        send_all()
    (received,) = service.messages
    assert received.device == device.id
    assert received.message == {
        "web_push": 8030,
        "mutable": True,
        "notification": {
            "title": "You have a new notification",
            "body": "",
            "navigate": "https://site.example/notifications/",
            "lang": "en",
            "dir": "auto",
            "tag": id.hex,
            "data": {"id": str(id)},
        },
    }
    headers = received.headers
    assert (headers["TTL"], headers["Urgency"], headers["Topic"]) == ("86400", "normal", id.hex)
    assert headers["Content-Encoding"] == "aes128gcm"
    assert received.claims["sub"] == "mailto:admin@site.example"
    assert received.claims["aud"] == service.origin
    assert 0 < received.claims["exp"] - time.time() <= 12 * 3600
    assert received.public_key == public_key_of(private_key)
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.address) == ("sent", str(device.id))
    device.refresh_from_db()
    assert device.used_at and [event.text for event in read_timeline(Notification.objects.get())][1:] == [
        "Push: sent to Firefox on Linux."
    ]
    device.delete()
    assert (
        read_timeline(Notification.objects.get())[1].text == "Push: sent to a device that was removed since."
    )


def test_content_where_the_project_says_so(user, service, push_to):
    push_to(service.address, show_content=True)
    service.add_device(user)
    with translation.override("de"):
        push(user, "Der Export ist fertig", body="12.400 Zeilen", url="/exports/1/?a=1", level="error")
    push(user, "B", url="https://elsewhere.example/x")
    send_all()
    first, second = (received.message["notification"] for received in service.messages)
    assert (first["title"], first["body"], first["lang"]) == ("Der Export ist fertig", "12.400 Zeilen", "de")
    assert first["navigate"] == "https://site.example/exports/1/?a=1"
    assert second["navigate"] == "https://elsewhere.example/x"
    assert [received.headers["Urgency"] for received in service.messages] == ["high", "normal"]


@pytest.mark.with_all_apps("a job asks")
def test_a_question(user, service, push_to):
    """It says for which job the answer is, until when, and what happens without one."""
    push_to(service.address, show_content=True)
    service.add_device(user)
    Reader.objects.create(user=user, time_zone="Asia/Tokyo")
    task = question_tasks.ask_sync.using(owner=user, title="Order 7")
    task.enqueue(expires_ms=86_400_000, default="no")
    run_jobs()
    send_all()
    with timezone.override("Asia/Tokyo"):
        due_at = times.format_short(Wait.objects.get().due_at)
    assert service.messages[0].message["notification"]["body"].split("\n") == [
        "To the new address.",
        "Job: Order 7",
        f"Answer until: {due_at}",
        "Without an answer: The job goes on with “Keep”.",
    ]


def test_language_of_the_device(user, service):
    """Without content the message is in the language in which the browser has subscribed."""
    service.add_device(user, language="de")
    push(user)
    send_all()
    notification = service.messages[0].message["notification"]
    with translation.override("de"):
        expected = translation.gettext("You have a new notification")
    assert notification["title"] == expected != "You have a new notification"
    assert notification["lang"] == "de"


@pytest.mark.parametrize(
    "fields",
    [
        {"body": "x" * 2000},
        {"body": "\N{GRINNING FACE}" * 2000},
        {"body": '"\n' * 1000},
        {"body": "\x01" * 2000, "title": "\x01" * 200},
        {"body": "\N{GRINNING FACE}" * 2000, "url": "/" + "ä" * 999, "title": "\N{GRINNING FACE}" * 200},
        {"url": "/" + "\N{GRINNING FACE}" * 999},
    ],
)
def test_size(user, service, push_to, fields):
    """The body is shortened, and a link that still does not fit is that of the inbox."""
    push_to(service.address, show_content=True)
    service.add_device(user)
    push(user, **{"title": "note", **fields})
    send_all()
    (received,) = service.messages
    notification = received.message["notification"]
    assert (
        received.size <= pushes.MAX_MESSAGE_BYTES + 103
    )  # of the header, the delimiter and the tag of RFC 8188
    assert notification["title"] == fields.get("title", "note")
    body = fields.get("body", "")
    assert notification["body"] in ("", body) or body.startswith(notification["body"].removesuffix("…"))


@pytest.mark.parametrize("status", [404, 410])
def test_device_that_is_gone(user, service, status):
    """It is removed, and the delivery says so. Its neighbor is sent."""
    gone, kept = service.add_device(user, "Chrome on Android"), service.add_device(user)
    service.answer = lambda device, number: status if device == gone.id else 201
    push(user)
    send_all()
    run_until_idle()
    assert [device.id for device in PushSubscription.objects.all()] == [kept.id]
    assert states() == {str(gone.id): "skipped", str(kept.id): "sent"}
    texts = [event.text for event in read_timeline(Notification.objects.get())]
    expected = f"Chrome on Android: 127.0.0.1 answered {status}."
    assert f"Push: not sent. The device is not subscribed any more. {expected}" in texts
    assert service.tries.count(gone.id) == 1
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_answers_that_pass(user, service, status):
    service.add_device(user)
    service.answer = lambda device, number: status if number < 3 else 201
    push(user)
    send_due()
    assert Delivery.objects.get().state == "queued" and f"status {status}" in Delivery.objects.get().error
    run_until_idle()
    assert Delivery.objects.get().state == "sent" and len(service.tries) == 3
    assert {received.headers["Topic"] for received in service.messages} == {Notification.objects.get().id.hex}


def test_retry_after(user, service):
    """It is tried again when the push service says so, if that is later than the usual pause."""
    service.add_device(user)
    service.answer = lambda device, number: (429, {"Retry-After": "5000"})
    push(user)
    before = timezone.now()
    send_due()
    assert (Job.objects.get().run_after - before).total_seconds() >= 5000


@pytest.mark.parametrize("status", [400, 401, 403, 413, 307, 302])
def test_answers_that_do_not_pass(user, service, status):
    """Redirects are not followed."""
    device = service.add_device(user)
    service.answer = lambda device, number: (status, {"Location": f"{service.origin}/elsewhere"})
    push(user)
    send_due()
    run_until_idle()
    delivery = Delivery.objects.get()
    assert delivery.state == "failed" and ("redirects" if status < 400 else str(status)) in delivery.error
    assert service.tries == [device.id] and PushSubscription.objects.exists()


@pytest.fixture
def set_deadline(set_bounds):
    """set_deadline(seconds) sets the time that a push service has to answer."""
    return lambda seconds: set_bounds(answers=seconds)


@pytest.mark.parametrize("answer", [201, 400, 410, 429, 500, None])
def test_secrets_are_nowhere(user, service, private_key, set_deadline, caplog, answer):
    """Who knows the address of a device, or its keys, or that of the site, sends to it: no log and no row has them."""
    if answer is None:
        set_deadline(0.5)
    device = service.add_device(user, endpoint=f"{service.origin}/treasure")
    service.private_keys["/treasure"] = service.private_keys.popitem()[1]
    service.answer = lambda device, number: answer
    push(user)
    with caplog.at_level("DEBUG"):
        send_due()
        # This machine may have stopped until the deadline.
        wait_until(lambda: service.tries or (run_until_idle() and service.tries), what="a try")
    rows = [vars(row) for model in (Delivery, Job, Attempt) for row in model.objects.all()]
    shown = f"{caplog.text} {rows} {read_timeline(Notification.objects.get())}"
    assert set(service.tries) == {device.id} and len(rows) > 1
    assert not [secret for secret in ("treasure", device.p256dh, device.auth, private_key) if secret in shown]


def test_silence(user, service, set_deadline):
    set_deadline(0.5)
    service.add_device(user)
    service.answer = lambda device, number: None
    push(user)
    send_due()
    delivery = Delivery.objects.get()
    assert delivery.state == "queued" and "within 0.5 s" in delivery.error


def test_body_of_an_answer_is_not_read(user, service, monkeypatch):
    async def refuse(*args):
        raise AssertionError("The body is read.")

    monkeypatch.setattr("notifications.outbound.exchange.read", refuse)
    service.body = b"x" * 10_000_000
    service.add_device(user)
    push(user)
    send_due()
    assert states().popitem()[1] == "sent"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1"])
def test_endpoints_inside_the_network(user, service, push_to, host):
    """They are refused, and nothing is sent."""
    push_to()
    service.add_device(user, endpoint=f"http://{host}/1")
    push(user)
    send_due()
    run_until_idle()
    delivery = Delivery.objects.get()
    assert delivery.state == "failed" and "was not called" in delivery.error
    assert not service.tries and Job.objects.get().attempt == 1


def test_each_device_has_a_delivery_and_a_job(user, other_user, service):
    ids = {service.add_device(user).id for _ in range(3)}
    service.add_device(other_user)
    id = push(user)
    send_all()
    assert {received.device for received in service.messages} == ids and len(service.messages) == 3
    assert {received.message["notification"]["tag"] for received in service.messages} == {id.hex}
    rows = list(Delivery.objects.all())
    assert {row.address for row in rows} == {str(id) for id in ids}
    assert len({row.job for row in rows}) == 3 and {row.state for row in rows} == {"sent"}


def test_device_that_hangs_holds_up_no_other(
    user, service, start_worker, set_deadline, monkeypatch, frequent_sending
):
    set_deadline(200.0)
    stuck, *others = (service.add_device(user) for _ in range(3))
    released = threading.Event()
    monkeypatch.setattr(service, "closing", released)  # so that it also ends if the test fails

    def answer(device, number):
        if device == stuck.id:
            released.wait()
        return 201

    service.answer = answer
    push(user)
    start_worker()
    sent = {str(device.id) for device in others}
    rows = Delivery.objects.filter(state="sent")
    wait_until(lambda: set(rows.values_list("address", flat=True)) == sent, what="both other devices")
    assert states()[str(stuck.id)] == "queued" and stuck.id in service.tries
    released.set()
    wait_until(lambda: set(states().values()) == {"sent"}, what="the device that hung")


def test_user_without_a_device(user, service):
    push(user)
    send_due()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.reason) == ("skipped", "no-address")
    assert (
        "Push: not sent. The user has no device for push."
        in read_timeline(Notification.objects.get())[1].text
    )
    assert read_timeline(Notification.objects.get(), for_user=True) == []


def test_device_that_is_removed_meanwhile(user, other_user, service):
    """Or is that of another user meanwhile."""
    first, second, third = (service.add_device(user) for _ in range(3))
    push(user)
    send_due()
    PushSubscription.objects.filter(id=second.id).delete()
    PushSubscription.objects.filter(id=third.id).update(user=other_user)
    send_due()
    assert states() == {str(first.id): "sent", str(second.id): "skipped", str(third.id): "skipped"}
    assert set(Delivery.objects.values_list("reason", flat=True)) == {"", "gone"}
    assert len(service.messages) == 1


def test_what_was_seen_meanwhile_goes_to_no_further_device(user, service):
    for _ in range(3):
        service.add_device(user)
    push(user)
    send_due()
    Notification.objects.update(read_at=timezone.now())
    send_due()
    assert len(service.messages) == 1
    assert sorted(Delivery.objects.values_list("state", "reason")) == [
        ("sent", ""),
        ("skipped", "read"),
        ("skipped", "read"),
    ]


def test_switched_off(user, service):
    """Push alone, or the whole category; the bell goes on in the first case."""
    service.add_device(user)
    choose(user, {("export", "push"): "off"})
    mute(user, "report")
    ids = [push(user, category=category) for category in ("export", "report", "other")]
    send_all()
    assert [received.headers["Topic"] for received in service.messages] == [ids[2].hex]
    assert Delivery.objects.get(notification=ids[0]).reason == "off"
    assert not Delivery.objects.filter(notification=ids[1]).exists()


def test_rollback(user, service):
    service.add_device(user)
    with pytest.raises(RuntimeError), transaction.atomic():
        push(user)
        raise RuntimeError
    send_due()
    assert not Delivery.objects.exists() and not service.tries


def test_answer_is_kept_until_the_database_takes_it(user, service, short_pauses):
    """While it is away the attempt goes on, and each device gets the message once."""
    ids = [service.add_device(user).id for _ in range(2)]
    push(user)
    with refused("UPDATE .notifications_deliveries_delivery.*SENT", times=2) as failures:
        send_due()
        run_until_idle()
        send_all()
    assert sorted(service.tries, key=str) == sorted(ids, key=str) and len(failures) == 2
    assert states() == {str(id): "sent" for id in ids}


def test_transaction_of_the_decision_that_is_run_again(user, service):
    """The database was busy at its end, for example: all devices still get the message."""
    for _ in range(2):
        service.add_device(user)
    push(user)
    with refused("INSERT INTO .?notifications_deliveries_delivery", times=1) as failures:
        send_all()
        run_until_idle()
        send_all()
    assert len(failures) == 1
    assert len(service.messages) == 2 and set(states().values()) == {"sent"}


def test_devices_are_deleted_with_their_user(user, other_user, service):
    service.add_device(user)
    kept = service.add_device(other_user)
    user.delete()
    assert [device.id for device in PushSubscription.objects.all()] == [kept.id]


def test_missing_package(user, service, monkeypatch):
    """It is tried again, because it may be installed meanwhile."""
    service.add_device(user)
    monkeypatch.setitem(sys.modules, "pywebpush", None)
    push(user)
    send_due()
    assert "asyncsite-notifications[push]" in Delivery.objects.get().error
    monkeypatch.delitem(sys.modules, "pywebpush")
    run_until_idle()
    assert Delivery.objects.get().state == "sent"


def test_packages_are_imported_only_when_used():
    """They import requests, which a project without push does not need."""
    code = (
        "import django, sys; django.setup(); import notifications.urls;"
        "print({'pywebpush', 'py_vapid', 'http_ece', 'requests'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


def test_keys_that_cannot_encrypt(user, service):
    """Only rows of other programs have them: it fails at once."""
    service.add_device(user, p256dh="AAAA")
    push(user)
    send_due()
    assert Delivery.objects.get().error.startswith("The keys of the device cannot encrypt")
    assert Delivery.objects.get().state == "failed" and not service.tries


def test_refusal_for_good(user, user_client, service, caplog):
    """It is shown where the device is listed and in doctor, and logged once, until a message is accepted."""
    device = service.add_device(user)
    service.answer = lambda device, number: 403
    for title in ("one", "two"):
        push(user, title)
        send_all()
    device.refresh_from_db()
    assert device.refused_status == 403 and device.used_at is None
    logged = [each for each in caplog.records if "refuses messages" in each.message]
    assert len(logged) == 1 and f"{device.id}, status 403" in logged[0].message
    assert "127.0.0.1 refuses messages" in user_client.get("/notifications/devices/").content.decode()
    (finding,) = doctor("devices")
    assert finding["state"] == "warning" and finding["figures"] == {"refused": 1, "outdated": 0}
    service.answer = lambda device, number: 201
    push(user, "three")
    send_all()
    device.refresh_from_db()
    assert device.refused_status == 0 and device.used_at
    (finding,) = doctor("devices")
    assert finding["state"] == "ok"


ANOTHER_KEY = (
    b"the VAPID credentials in the authorization header do not correspond to the credentials used to create"
)


@pytest.mark.parametrize(
    ("status", "body", "reason", "remedy"),
    [
        (403, b'{"reason":"BadJwtToken"}', "BadJwtToken", "Check that the subject"),
        (403, b'{"reason":"VapidPkHashMismatch"}', "VapidPkHashMismatch", "Set the earlier private_key"),
        (
            403,
            ANOTHER_KEY + b" the subscriptions.\n",
            "the VAPID credentials in",
            "Set the earlier private_key",
        ),
        (
            401,
            b'{"code":401,"errno":109,"message":"Invalid VAPID auth"}',
            "Invalid VAPID auth",
            "Check that the subject",
        ),
        (403, b"", "", "Check that the subject"),
        (413, b'{"reason":"PayloadTooLarge"}', "PayloadTooLarge", "The documentation of the push service"),
        (400, b"<html>Bad Request</html>", "", "The documentation of the push service"),
    ],
)
def test_the_reason_of_a_refusal(user, user_client, service, caplog, status, body, reason, remedy):
    """It is stored and shown, and the remedy is that for its cause."""
    device = service.add_device(user)
    service.answer, service.body = lambda device, number: status, body
    push(user)
    send_all()
    device.refresh_from_db()
    assert device.refused_status == status
    assert device.refused_reason.startswith(reason) and bool(device.refused_reason) == bool(reason)
    assert reason in Delivery.objects.get().error and f"status {status} (" in Delivery.objects.get().error
    assert reason in caplog.text
    (finding,) = doctor("devices")
    assert f"127.0.0.1: {status}{reason and ' '}{reason}" in finding["message"]
    assert finding["remedy"].startswith(
        ("The signature is not accepted. " if "Check" in remedy else "") + remedy
    )
    page = user_client.get("/notifications/devices/").content.decode()
    assert ("Open this page in that browser" in page) is (remedy == "Set the earlier private_key")
    assert ("Its administrators can see why." in page) is (remedy != "Set the earlier private_key")
    service.answer = lambda device, number: 201
    push(user, "two")
    send_all()
    device.refresh_from_db()
    assert (device.refused_status, device.refused_reason) == (0, "")


def test_of_a_long_reason_little_is_read(user, service):
    """Users choose their push services."""
    device = service.add_device(user)
    service.answer, service.body = lambda device, number: 403, b"A\0" * 5_000_000
    push(user)
    send_all()
    device.refresh_from_db()
    assert len(device.refused_reason) == 200 and "\0" not in device.refused_reason


@pytest.mark.parametrize(
    "answer",
    ["{endpoint}", "{endpoint} is unknown", "No s3cr3tOfTheBrowser, sorry", "/0?s3cr3t", "S3CR3TOFTHEB"],
)
def test_a_reason_has_nothing_of_the_endpoint(user, service, caplog, answer):
    """Who knows the endpoint may send to the browser."""
    device = service.add_device(user)
    device.endpoint += "#s3cr3tOfTheBrowser"
    device.save()
    service.answer, service.body = lambda *_: 400, answer.format(endpoint=device.endpoint).encode()
    push(user)
    send_all()
    device.refresh_from_db()
    assert device.refused_status == 400 and "status 400" in Delivery.objects.get().error
    assert "s3cr3t" not in f"{device.refused_reason} {Delivery.objects.get().error} {caplog.text}"


@pytest.mark.with_all_apps("rates are another app")
def test_they_use_the_limit_of_urls_of_users(user, service, settings, monkeypatch):
    from notifications.contrib.rates.models import Limit

    monkeypatch.setattr(gates, "enabled_in_tests", True)
    rates = {"push": {"rate": "60/m", "burst": 10, "hosts": [service.address]}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RATES": rates}
    service.add_device(user)
    push(user)
    send_all()
    assert states().popitem()[1] == "sent"
    assert [limit.key for limit in Limit.objects.all()] == ["push:(URLs of users)"]


def test_remedies_of_several_causes(user, service):
    """One for each, and none of a device that has another key is guessed from the answer to it."""
    devices = [service.add_device(user) for _ in range(3)]
    rows = PushSubscription.objects
    rows.filter(pk=devices[0].pk).update(refused_status=403, refused_reason="BadJwtToken", key_hash="0" * 64)
    rows.filter(pk=devices[1].pk).update(refused_status=413)
    (finding,) = doctor("devices")
    assert finding["figures"] == {"refused": 1, "outdated": 1}
    assert finding["remedy"].startswith("Set the earlier private_key")
    assert (
        "The documentation of the push service" in finding["remedy"] and "signature" not in finding["remedy"]
    )


def test_answer_that_may_pass_is_no_refusal(user, service):
    device = service.add_device(user)
    service.answer = lambda device, number: 429
    push(user)
    send_due()
    device.refresh_from_db()
    assert device.refused_status == 0


def test_devices_of_another_key(user, service):
    PushSubscription.objects.filter(pk=service.add_device(user).pk).update(key_hash="0" * 64)
    (finding,) = doctor("devices")
    assert finding["figures"] == {"refused": 0, "outdated": 1}
    assert "Set the earlier private_key" in finding["remedy"]
