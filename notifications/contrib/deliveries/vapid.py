"""The key by which push services recognize this site (VAPID, RFC 8292): ``NOTIFICATIONS["WEB_PUSH"]``."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings
from notifications.extension import WrongDeclaration

#: A signature is used for so many seconds, and is valid for at most twice as long: 12 hours.
SIGNATURE_SECONDS = 6 * 3600
#: Origins of push services whose signatures are kept. Users choose them.
MAX_SIGNATURES = 256
SETTING = "NOTIFICATIONS['WEB_PUSH']"
#: Top-level domains that are no public ones (RFC 2606, RFC 6762, and ICANN's for private use).
LOCAL_DOMAINS = {"localhost", "local", "invalid", "test", "internal"}
_DOMAIN = r"(?:[a-z0-9-]+\.)+(?P<{}>[a-z][a-z0-9-]+)"
_CONTACT = re.compile(
    rf"mailto:[^\s<>()\[\],;:@\"\\]+@{_DOMAIN.format('mail')}"
    rf"|https://{_DOMAIN.format('web')}",
    re.IGNORECASE | re.ASCII,
)
INSTALL = 'Install it: pip install "asyncsite-notifications[push]".'
EXTRA_MISSING = f"Push needs a package. {INSTALL}"


def generate_private_key() -> str:
    """Return a new private key: 32 bytes in base64url. Raises ``ImproperlyConfigured``."""
    vapid = _vapid_class()()
    vapid.generate_keys()
    return _base64url(vapid.private_key.private_numbers().private_value.to_bytes(32, "big"))


def sign(origin: str) -> str:
    """Return the header ``Authorization`` of requests to the push service of an origin.

    Raises ``ImproperlyConfigured`` if the setting is wrong, and ``ValueError`` for an origin that cannot be signed.
    """
    expires = (int(time.time()) // SIGNATURE_SECONDS + 2) * SIGNATURE_SECONDS
    return _sign(private_key(), settings.WEB_PUSH["subject"], origin, expires)


def find_wrong_web_push(*, is_used: bool) -> list[WrongDeclaration]:
    """Return what keeps push messages from being sent, for system checks. See ``Channel.find_wrong()``."""
    try:
        if not settings.WEB_PUSH:
            if not is_used:
                return []
            return [
                WrongDeclaration(
                    "notifications.W033",
                    f"NOTIFICATIONS['DELIVERY'] has the channel push, but {SETTING} is empty: nobody can subscribe.",
                    "Write what `manage.py notifications vapid` prints into the settings.",
                )
            ]
    except ImproperlyConfigured:  # which another check reports
        return []
    try:
        sign("https://push.example")
    except (ImproperlyConfigured, ValueError) as exc:
        hint = "Write what `manage.py notifications vapid` prints into the settings."
        if str(exc) == EXTRA_MISSING:
            return [
                WrongDeclaration(
                    "notifications.W032", "Push messages cannot be sent without a package.", INSTALL
                )
            ]
        return [WrongDeclaration("notifications.W032", f"Push messages cannot be sent: {exc}", hint)]
    if is_contact(subject := str(settings.WEB_PUSH["subject"])):
        return []
    return [
        WrongDeclaration(
            "notifications.W052",
            f"{SETTING}['subject'] is {subject!r}, by which nobody can be reached. Push services that check it, as "
            "Apple's does, refuse all messages (403 BadJwtToken).",
            "Write an address at a public domain, 'mailto:admin@example.com', or an https:// address of the site.",
        )
    ]


def is_contact(subject: str) -> bool:
    """Return whether a subject is an e-mail or web address at a public domain, without spaces and brackets."""
    found = _CONTACT.fullmatch(subject)
    return found is not None and (found["mail"] or found["web"]).lower() not in LOCAL_DOMAINS


def private_key() -> str:
    """Return the private key of the setting. Raises ``ImproperlyConfigured``."""
    if not settings.WEB_PUSH:
        raise ImproperlyConfigured(f"{SETTING} is empty, so there is no key for push messages.")
    return str(settings.WEB_PUSH["private_key"])


def _vapid_class() -> Any:
    try:
        from py_vapid import Vapid02
    except ImportError as exc:
        raise ImproperlyConfigured(EXTRA_MISSING) from exc
    return Vapid02


@lru_cache(maxsize=4)
def _load(private_key: str) -> Any:
    from_string = _vapid_class().from_string
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        vapid = from_string(private_key)
        if vapid.public_key.curve.name != "secp256r1":
            raise ValueError("another curve")
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as exc:  # which may quote the key
        raise ImproperlyConfigured(f"{SETTING}['private_key'] is not a private key of VAPID.") from exc
    return vapid


@lru_cache(maxsize=4)
def public_key(private_key: str) -> str:
    """Return the public key of a private one: what browsers subscribe with. Raises ``ImproperlyConfigured``."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _load(private_key).public_key
    return _base64url(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


@lru_cache(maxsize=MAX_SIGNATURES)
def _sign(private_key: str, subject: str, origin: str, expires: int) -> str:
    vapid = _load(private_key)
    from py_vapid import VapidException  # now that it is known to be installed

    try:
        header = vapid.sign({"sub": subject, "aud": origin, "exp": expires})["Authorization"]
    except (VapidException, TypeError) as exc:
        if "'aud'" in str(exc):
            raise ValueError(f"The push service {origin} cannot be named in a signature.") from exc
        raise ImproperlyConfigured(
            f"{SETTING}['subject'] is not an address like 'mailto:admin@example.com'."
        ) from exc
    return str(header)


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
