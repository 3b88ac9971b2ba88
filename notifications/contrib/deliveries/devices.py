"""The devices of users: the browsers that have subscribed to push messages."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from notifications import times, validators
from notifications.contrib.deliveries.models import PushSubscription
from notifications.db import database, lock_name, retrying_atomic

#: Devices that one user can have.
MAX_DEVICES = 20
MAX_ENDPOINT_LENGTH = 1000
#: Bytes of the keys of a subscription: an uncompressed point of P-256, and a secret (RFC 8291, sections 3.1 and 3.2).
P256DH_BYTES, AUTH_BYTES = 65, 16


class TooManyDevices(Exception):
    """The user has ``MAX_DEVICES`` devices."""


class WrongSubscription(ValueError):
    """A value of a subscription is not valid; ``field`` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


def register(
    user: Any,
    endpoint: Any,
    p256dh: Any,
    auth: Any,
    *,
    name: str,
    language: str,
    key: Any = "",
    replaces: Any = "",
    confirms: bool = False,
) -> PushSubscription | None:
    """Store the subscription of a browser, or confirm it, and return the device.

    A browser that another user had subscribed is the device of ``user`` from then on.

    ``user``
        The key of a user.
    ``replaces``
        The earlier endpoint of the same browser, if it has changed.
    ``key``
        The public key of the site with which it has subscribed, in base64url.
    ``confirms``
        Store nothing, and return None, if the device was removed meanwhile.

    Raises ``WrongSubscription`` and ``TooManyDevices``.
    """
    check_subscription(endpoint, p256dh, auth)
    now = times.now()
    key_hash = hash_key(key) if isinstance(key, str) else ""
    changing = {
        "p256dh": p256dh,
        "auth": auth,
        "name": name,
        "language": language,
        "key_hash": key_hash,
        "seen_at": now,
    }

    def change() -> PushSubscription | None:
        lock_name("devices", user)
        lock_name("endpoint", endpoint)
        rows = PushSubscription.objects.using(database())
        is_replaced = False
        if isinstance(replaces, str) and replaces not in ("", endpoint):
            is_replaced = rows.filter(user=user, endpoint=validators.printable(replaces)).delete()[0] > 0
        rows.filter(endpoint=endpoint).exclude(user=user).delete()
        is_new = not rows.filter(endpoint=endpoint).exists()
        if is_new and confirms and not is_replaced:
            return None
        if is_new and rows.filter(user=user).count() >= MAX_DEVICES:
            raise TooManyDevices
        # What was refused may be accepted if the browser has subscribed anew.
        rows.filter(endpoint=endpoint).exclude(auth=auth, key_hash=key_hash).update(
            refused_status=0, refused_reason=""
        )
        return rows.update_or_create(
            endpoint=endpoint,
            defaults=changing,
            create_defaults={**changing, "user_id": user, "created_at": now},
        )[0]

    return retrying_atomic(change)


def check_subscription(endpoint: Any, p256dh: Any, auth: Any) -> None:
    """Raise ``WrongSubscription`` for what no browser sends. The addresses of a name are checked at each call."""
    # With aiohttp, in processes that need it only.
    from notifications.outbound import Forbidden, parse_target

    if not isinstance(endpoint, str) or not endpoint.isascii() or len(endpoint) > MAX_ENDPOINT_LENGTH:
        raise WrongSubscription("endpoint", f"must be a URL of at most {MAX_ENDPOINT_LENGTH} characters.")
    try:
        target = parse_target(endpoint)
        if target.url.scheme != "https":
            raise WrongSubscription("endpoint", "must begin with https://.")
        target.check()
    except Forbidden as exc:
        raise WrongSubscription("endpoint", f"cannot be called: {exc}.") from exc
    point = _decode("p256dh", p256dh, P256DH_BYTES)
    _decode("auth", auth, AUTH_BYTES)
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as exc:
        raise WrongSubscription("p256dh", "must be a point of the curve P-256.") from exc


def _decode(field: str, value: Any, size: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,88}={0,2}", value):
        raise WrongSubscription(field, "must be base64url.")
    try:
        decoded = urlsafe_b64decode(value.rstrip("=") + "==")
    except ValueError as exc:
        raise WrongSubscription(field, "must be base64url.") from exc
    if len(decoded) != size:
        raise WrongSubscription(field, f"must be {size} bytes in base64url.")
    return decoded


def of_user(user: Any) -> list[PushSubscription]:
    """Return the devices of a user (key), the newest last."""
    return list(PushSubscription.objects.using(database()).filter(user=user).order_by("id")[:MAX_DEVICES])


def remove(user: Any, id: UUID) -> bool:
    """Remove a device of a user (key). Returns whether there was one."""
    rows = PushSubscription.objects.using(database()).filter(user=user, id=id)
    return retrying_atomic(rows.delete)[0] > 0


def hash_key(key: str) -> str:
    """Return the hash of a public key (base64url) that a device stores, ``""`` without one."""
    return sha256(key.encode(errors="replace")).hexdigest() if key else ""


def is_outdated(device: PushSubscription, public_key: str) -> bool:
    """Return whether a device has subscribed with another key than this one: its push service refuses messages."""
    return device.key_hash not in ("", hash_key(public_key))


def service_of(device: PushSubscription) -> str:
    """Return the host of the push service of a device. The rest of its endpoint is a secret."""
    return urlsplit(device.endpoint).hostname or ""
