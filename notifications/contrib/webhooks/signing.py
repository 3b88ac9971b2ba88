"""Sign and verify webhooks by Standard Webhooks (https://www.standardwebhooks.com), with ``standardwebhooks``."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.http import HttpRequest, RawPostDataException, UnreadablePostError
from django.views.decorators.debug import sensitive_variables

from notifications.exceptions import InvalidWebhook

try:
    from standardwebhooks import Webhook, WebhookVerificationError
except ImportError as exc:
    raise ImproperlyConfigured(
        'standardwebhooks is not installed. Install it: pip install "asyncsite-notifications[webhooks]".'
    ) from exc

#: Bytes of a new secret. The specification has from 24 to 64.
SECRET_BYTES = 32
#: How long the previous secret signs too after a rotation, by default and at most.
OVERLAP, MAX_OVERLAP = timedelta(days=1), timedelta(days=30)
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
#: One signature of the only version that a shared secret makes. Others, of later versions, are passed over.
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
#: Signatures that are compared at most: two during a rotation.
MAX_SIGNATURES = 10


def new_secret() -> str:
    """Return a new secret, as receivers are given it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


@sensitive_variables()
def sign(keys: Iterable[str], id: str, at: datetime, body: str) -> dict[str, str]:
    """Return the headers of an attempt that begins at an aware time in UTC, with a signature of each secret."""
    signatures = [Webhook(key).sign(id, at, body) for key in keys]
    return {
        ID_HEADER: id,
        TIMESTAMP_HEADER: str(int(at.timestamp())),
        SIGNATURE_HEADER: " ".join(signatures),
    }


@sensitive_variables()
def verify_webhook(request: HttpRequest, secret: str, *, max_bytes: int = 1_000_000) -> Any:
    """Return the JSON of a webhook that another system has sent, signed as Standard Webhooks says.

    ``secret``
        The secret that the sender gave: ``whsec_`` and base64.
    ``max_bytes``
        The largest body; ``DATA_UPLOAD_MAX_MEMORY_SIZE`` limits it too.

    The time of the signature may be five minutes off. A webhook may arrive twice, with the same ``webhook-id``.

    Raises ``notifications.exceptions.InvalidWebhook``, whatever the request brings; ValueError if ``secret`` itself is
    none. The body must not have been read before, as CSRF protection does with forms: exempt the view from it.
    """
    webhook = read_secret(secret)
    text = _read_body(request, max_bytes)
    _verify(webhook, request.headers, text)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidWebhook("The body is not JSON.") from exc


@sensitive_variables()
def read_secret(secret: str) -> Webhook:
    """Return what signs and verifies with a secret of Standard Webhooks. Raises ValueError if it is none."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    except (ValueError, TypeError, AttributeError):
        key = b""
    if not key:  # without a cause, whose text or traceback might show the secret
        raise ValueError(
            "secret is no secret of a webhook. Write it as the sender gave it: whsec_ and base64."
        )
    return Webhook(key)


def _read_body(request: HttpRequest, max_bytes: int) -> str:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        body = request.body if length <= max_bytes else None
    except (RequestDataTooBig, ValueError):
        body = None
    except UnreadablePostError as exc:
        raise InvalidWebhook("The body did not arrive completely.") from exc
    except RawPostDataException as exc:
        raise InvalidWebhook(
            "The body was read before, so it cannot be verified. Exempt the view from CSRF protection, and do not use "
            "request.POST."
        ) from exc
    if body is None or len(body) > max_bytes:
        raise InvalidWebhook(f"The body is larger than {max_bytes} bytes.")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidWebhook("The body is not UTF-8.") from exc


@sensitive_variables()
def _verify(webhook: Webhook, headers: Mapping[str, str], text: str) -> None:
    """Raise ``InvalidWebhook`` unless one signature is right and recent, which are compared in constant time.

    The library raises ValueError, UnicodeError and others for hostile headers, so it gets well-formed ones only.
    """
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    signatures = headers.get(SIGNATURE_HEADER, "").split(" ")[:MAX_SIGNATURES]
    known = " ".join(filter(_SIGNATURE.fullmatch, signatures))
    id = headers.get(ID_HEADER, "")
    if not id or not known or not _SECONDS.fullmatch(timestamp):
        raise InvalidWebhook(
            f"The headers {ID_HEADER}, {TIMESTAMP_HEADER} and {SIGNATURE_HEADER} are missing or malformed."
        )
    values = {ID_HEADER: id, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: known}
    try:
        webhook.verify(text, values, json_parse=False)
    except WebhookVerificationError as exc:
        raise InvalidWebhook(f"The webhook is refused: {exc}.") from exc
    except ValueError as exc:  # a header that has no UTF-8
        raise InvalidWebhook("The headers cannot be read.") from exc


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
