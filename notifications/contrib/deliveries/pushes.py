"""The push message of a notification: what it says, its encryption, and the request to the push service of a device."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext

from notifications import serializers, times
from notifications.conf import settings
from notifications.contrib.deliveries import devices, vapid
from notifications.contrib.deliveries.errors import DeviceGone
from notifications.contrib.deliveries.models import Delivery, PushSubscription
from notifications.db.transactions import database, retrying_atomic
from notifications.models import Notification
from notifications.models.levels import NotificationLevel
from notifications.paths import absolute

#: The key and value by which browsers recognize a message that they can show themselves (Push API, "declarative").
DECLARATIVE = {"web_push": 8030}
#: Bytes of a message before its encryption. Push services take 4,096 afterwards, and some less.
MAX_MESSAGE_BYTES = 3000
#: Seconds for which a push service keeps a message for a device that is switched off.
TTL_SECONDS = 86_400
#: Seconds for the whole request.
DEADLINE_SECONDS = 20.0
#: Answers that say that the browser is not subscribed any more (RFC 8030, sections 7.3 and 8.3).
GONE_STATUSES = {404, 410}


class PushRequest(NamedTuple):
    """A request to the push service of a device."""

    device: PushSubscription
    body: bytes
    headers: dict[str, str]

    async def send(self) -> None:
        """Send it. The body of the answer is not read.

        Raises ``DeviceGone``, ``outbound.OutboundError``, and ``ValueError`` for what no other attempt can change.
        """
        from notifications import outbound  # with aiohttp, in processes that send only

        async with outbound.stream(
            "POST",
            self.device.endpoint,
            data=self.body,
            headers=self.headers,
            deadline=DEADLINE_SECONDS,
            retries=0,
            follow_redirects=False,
        ) as response:
            if 300 <= response.status < 400:
                raise ValueError("The push service redirects to another address, which is not followed.")
            if response.status in GONE_STATUSES:
                service = devices.service_of(self.device)
                raise DeviceGone(f"{self.device.name}: {service} answered {response.status}.")
            response.raise_for_status()

    def record(self, exc: Exception | None) -> None:
        """Store that the device was reached, or remove it if it is gone."""
        rows = PushSubscription.objects.using(database()).filter(id=self.device.id, user=self.device.user_id)
        if exc is None:
            retrying_atomic(lambda: rows.update(used_at=times.now()))
        elif isinstance(exc, DeviceGone):
            # Unless the browser has subscribed anew meanwhile.
            retrying_atomic(rows.filter(auth=self.device.auth).delete)


def make_request(delivery: Delivery, row: Notification) -> PushRequest:
    """Return the request that sends a notification to the device of a delivery.

    Raises ``DeviceGone``, ``ConnectionError`` if the settings are incomplete, and ``ValueError``.
    """
    rows = PushSubscription.objects.using(database()).filter(id=UUID(delivery.address), user=delivery.user_id)
    device = rows.first()
    if device is None:
        raise DeviceGone
    try:
        return PushRequest(device, *build_request(delivery, row, device))
    except ImproperlyConfigured as exc:
        raise ConnectionError(str(exc)) from exc  # which may be corrected meanwhile


def build_request(
    delivery: Delivery, row: Notification, device: PushSubscription
) -> tuple[bytes, dict[str, str]]:
    """Return the encrypted body and the headers of a request to the push service of a device.

    Raises ``ImproperlyConfigured`` and ``ValueError``.
    """
    from notifications.outbound.guard import parse  # with aiohttp, in processes that send only

    try:
        from pywebpush import WebPusher
    except ImportError as exc:
        raise ImproperlyConfigured(vapid.EXTRA_MISSING) from exc
    target = parse(device.endpoint).url
    message = serializers.encode(build_message(delivery, row, device)).encode()
    keys = {"p256dh": device.p256dh, "auth": device.auth}
    try:
        body = WebPusher({"endpoint": device.endpoint, "keys": keys}).encode(message)["body"]
    except Exception as exc:  # its own exceptions, and those of two other libraries
        raise ValueError(f"The keys of the device cannot encrypt: {type(exc).__name__}.") from exc
    return body, {
        "Authorization": vapid.sign(str(target.origin())),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(TTL_SECONDS),
        "Urgency": "high" if row.level == NotificationLevel.ERROR else "normal",
        # Of two with one topic, the push service keeps the later one for a device that is switched off.
        "Topic": row.id.hex,
    }


def build_message(delivery: Delivery, row: Notification, device: PushSubscription) -> dict[str, Any]:
    """Return a message, which the service worker shows, or the browser itself.

    Its ``tag`` is the same each time, so that one that was sent twice is shown once.
    """
    shows_content = settings.WEB_PUSH.get("show_content", False)
    language = (delivery.language if shows_content else device.language) or django_settings.LANGUAGE_CODE
    with translation.override(language):
        inbox = absolute(reverse("notifications:inbox"))
        notification = {
            "title": row.title if shows_content else gettext("You have a new notification"),
            "body": row.body if shows_content else "",
            "navigate": absolute(row.url) if shows_content and row.url else inbox,
            "lang": language,
            "dir": "auto",
            "tag": row.id.hex,
            "data": {"id": str(row.id)},
        }
    # The service worker is called if there is one, because it marks the notification as read when it is clicked.
    message = {**DECLARATIVE, "mutable": True, "notification": notification}
    body = notification["body"]
    while (excess := len(serializers.encode(message).encode()) - MAX_MESSAGE_BYTES) > 0:
        if not body:
            notification["navigate"] = inbox  # only a link that is not ASCII is that long
            break
        body = body.encode()[: -excess - len("…".encode())].decode(errors="ignore")
        notification["body"] = f"{body}…" if body else ""
    return message
