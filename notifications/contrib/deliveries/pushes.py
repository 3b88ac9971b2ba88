"""Push: a channel to the devices of users, by their push services (Web Push, RFC 8030)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.conf import settings
from notifications.contrib.deliveries import devices, refusals, vapid
from notifications.contrib.deliveries.errors import PASSING_STATUS_CODES
from notifications.contrib.deliveries.models import PushSubscription
from notifications.contrib.deliveries.preferences import read_reader
from notifications.contrib.deliveries.quiet_hours import zone_of
from notifications.db import app_sync_to_async, database, retrying_atomic
from notifications.exceptions import NotificationsError
from notifications.extension import AddressGone, Channel, ChannelMessage, WrongDeclaration, hooks
from notifications.http import encode_json
from notifications.inbox import absolute
from notifications.models import Notification, NotificationLevel

logger = logging.getLogger("notifications")

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


class Push(Channel):
    label, preference_label = _("push"), _("by push")
    has_many_addresses = True
    reasons = {
        "no-address": _("The user has no device for push."),
        "gone": _("The device is not subscribed any more."),
    }

    def addresses(self, user: Any) -> list[str]:
        return [str(device.id) for device in devices.of_user(user.pk)]

    def find_addresses(self, users: Mapping[Any, Sequence[Any]]) -> dict[Any, list[str]]:
        found: dict[Any, list[str]] = {user: [] for user in users}
        rows = PushSubscription.objects.using(database()).filter(user__in=list(users))
        for user, id in rows.values_list("user", "id"):
            found[user].append(str(id))
        return found

    async def send(self, message: ChannelMessage) -> None:
        from notifications import outbound  # with aiohttp, in processes that send only

        device, body, headers = await app_sync_to_async(make_request)(message)
        # The body of the answer is not read, but for the reason of a refusal.
        async with outbound.stream(
            "POST",
            device.endpoint,
            data=body,
            headers=headers,
            deadline=DEADLINE_SECONDS,
            retries=0,
            follow_redirects=False,
            is_user_url=True,
        ) as response:
            if 300 <= response.status < 400:
                raise ValueError("The push service redirects to another address, which is not followed.")
            if response.status in GONE_STATUSES:
                raise DeviceGone(device, response.status)
            try:
                response.raise_for_status()
            except outbound.BadStatus as exc:
                raise await _with_reason(exc, response, device.endpoint) from exc

    def record(self, message: ChannelMessage, error: Exception | None) -> None:
        """Store that the device was reached or refused, or remove it if it is gone."""
        rows = PushSubscription.objects.using(database()).filter(id=message.address, user=message.user.pk)
        status, reason = getattr(error, "status", None), getattr(error, "reason", "")
        if error is None:
            retrying_atomic(lambda: rows.update(used_at=times.now(), refused_status=0, refused_reason=""))
        elif isinstance(error, DeviceGone):
            # Unless the browser has subscribed anew meanwhile.
            retrying_atomic(rows.filter(auth=error.device.auth).delete)
        elif isinstance(status, int) and 400 <= status < 500 and status not in PASSING_STATUS_CODES:
            others = rows.exclude(refused_status=status, refused_reason=reason)
            if retrying_atomic(lambda: others.update(refused_status=status, refused_reason=reason)):
                logger.warning(
                    "A push service refuses messages to a device: %s, status %d%s",
                    *(message.address, status, reason and f", {reason}"),
                )

    def describe_addresses(self, user: Any, addresses: Collection[str]) -> dict[str, str]:
        names = {str(device.id): device.name for device in devices.of_user(user)}
        return {id: names.get(id) or gettext("a device that was removed since") for id in addresses}

    def find_wrong(self, *, is_used: bool) -> list[WrongDeclaration]:
        return vapid.find_wrong_web_push(is_used=is_used)


async def _with_reason(error: Any, response: Any, endpoint: str) -> Exception:
    """Return the error of a status with the reason that the body of the answer gives, if it gives one."""
    body = b""
    try:
        async for chunk in response:
            body += chunk
            if len(body) >= refusals.MAX_BODY_BYTES:
                break
    except NotificationsError:
        pass  # the status counts
    if reason := refusals.parse_reason(body[: refusals.MAX_BODY_BYTES], endpoint):
        text = f"{str(error).rstrip('.')}: {reason}"
        error = type(error)(text, status=error.status, retry_after=error.retry_after)
        error.reason = reason
    return error


def read_public_key() -> str:
    """Return the public key of the site, ``""`` if that of the settings is wrong, which a check reports."""
    try:
        return vapid.public_key(vapid.private_key()) if settings.WEB_PUSH else ""
    except ImproperlyConfigured:
        return ""


class DeviceGone(AddressGone):
    """The push service has said that the browser is not subscribed any more."""

    def __init__(self, device: PushSubscription, status: int) -> None:
        super().__init__(f"{device.name}: {devices.service_of(device)} answered {status}.")
        self.device = device


def make_request(message: ChannelMessage) -> tuple[PushSubscription, bytes, dict[str, str]]:
    """Return the device of a message, and the encrypted body and the headers of the request to its push service.

    Raises ``AddressGone``, ``ConnectionError`` if the settings are incomplete, and ``ValueError``.
    """
    rows = PushSubscription.objects.using(database()).filter(id=message.address, user=message.user.pk)
    device = rows.first()
    if device is None:
        raise AddressGone
    try:
        return device, *build_request(message, device)
    except ImproperlyConfigured as exc:
        raise ConnectionError(str(exc)) from exc  # which may be corrected meanwhile


def build_request(message: ChannelMessage, device: PushSubscription) -> tuple[bytes, dict[str, str]]:
    """Return the encrypted body and the headers. Raises ``ImproperlyConfigured`` and ``ValueError``."""
    from notifications.outbound import parse_target  # with aiohttp, in processes that send only

    try:
        from http_ece import ECEException
        from pywebpush import WebPusher, WebPushException
    except ImportError as exc:
        raise ImproperlyConfigured(vapid.EXTRA_MISSING) from exc
    target = parse_target(device.endpoint).url
    (row,) = message.notifications
    text = encode_json(build_text(row, message, device)).encode()
    keys = {"p256dh": device.p256dh, "auth": device.auth}
    try:
        body = WebPusher({"endpoint": device.endpoint, "keys": keys}).encode(text)["body"]
    except (ValueError, TypeError, WebPushException, ECEException) as exc:
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


def build_text(row: Notification, message: ChannelMessage, device: PushSubscription) -> dict[str, Any]:
    """Return what a message says, which the service worker shows, or the browser itself.

    Its ``tag`` is the same each time, so that one that was sent twice is shown once.
    """
    shows_content = settings.WEB_PUSH.get("show_content", False)
    language = (message.language if shows_content else device.language) or django_settings.LANGUAGE_CODE
    with translation.override(language):
        inbox = absolute(reverse("notifications:inbox"))
        notification = {
            "title": row.title if shows_content else gettext("You have a new notification"),
            "body": _describe(row, message.user) if shows_content else "",
            "navigate": absolute(row.url) if shows_content and row.url else inbox,
            "lang": language,
            "dir": "auto",
            "tag": row.id.hex,
            "data": {"id": str(row.id)},
        }
    # The service worker is called if there is one, because it marks the notification as read when it is clicked.
    text = {**DECLARATIVE, "mutable": True, "notification": notification}
    body = notification["body"]
    while (excess := len(encode_json(text).encode()) - MAX_MESSAGE_BYTES) > 0:
        if not body:
            notification["navigate"] = inbox  # only a link that is not ASCII is that long
            break
        body = body.encode()[: -excess - len("…".encode())].decode(errors="ignore")
        notification["body"] = f"{body}…" if body else ""
    return text


def _describe(row: Notification, user: Any) -> str:
    """Return the body of a notification, and below it what extensions say of it."""
    if not row.open_question:
        return row.body
    with timezone.override(zone_of(read_reader(user.pk))):
        facts = hooks.read_facts(row, user, "push")
    return "\n".join(filter(None, (row.body, *(f"{fact.label}: {fact.text}" for fact in facts))))
