"""A push service on loopback, which decrypts what it receives as a browser does and answers as a test says."""

import asyncio
import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import http_ece
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from notifications.contrib.deliveries.models import PushSubscription
from notifications.times import now
from tests.outbound.upstream import Upstream

AUTH = b"0123456789abcdef"


def base64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_base64url(text):
    return base64.urlsafe_b64decode(text + "==")


def vapid_key():
    """Return a private key of a site, as the setting has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return base64url(key.private_numbers().private_value.to_bytes(32, "big"))


def public_key_of(private_key):
    """Return the public key of a private one, which browsers subscribe with."""
    key = ec.derive_private_key(int.from_bytes(from_base64url(private_key)), ec.SECP256R1())
    return base64url(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def browser_keys():
    """Return a private key of a browser, and the keys of its subscription."""
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return private, {"p256dh": base64url(point), "auth": base64url(AUTH)}


@dataclass(frozen=True, kw_only=True)
class PushMessage:
    """What a browser is to show.

    ``device``
        The id of its subscription.
    ``claims``
        Those of the verified signature.
    ``public_key``
        The key with which it was signed.
    ``status``
        The answer; 0 if there was none.
    ``at``
        When it was taken, in seconds since 1970.
    """

    device: object
    headers: object
    size: int
    message: dict
    claims: dict
    public_key: str
    status: int
    at: float = field(default_factory=time.time)


class PushService(Upstream):
    """Its devices, and what they have received.

    ``answer(device, number)``
        Returns the status of the answer to a device, with the number of its requests, or a pair of it and headers.
        None is silence; 0 breaks the connection after the message was taken.
    """

    def __init__(self):
        super().__init__()
        self.messages, self.tries = [], []
        self.answer = lambda device, number: 201
        self.body = b""
        self.closing = threading.Event()
        self.private_keys = {}
        self._numbers = count(1)
        self.origin = f"http://{self.address}"

    async def _handle(self, request):
        body = await request.read()
        try:  # in a thread, because an answer may take its time
            status, more = await asyncio.to_thread(self.take, request.path, request.headers, body)
        except Exception as exc:
            status, more = 418, {"X-Problem": repr(exc)}
        if status is None:  # silence
            await asyncio.to_thread(self.closing.wait)
        if not status:
            request.transport.abort()
        return web.Response(status=status or 503, headers=more, body=self.body)

    def add_device(self, user, name="Firefox on Linux", **fields):
        """Return a new subscription of a user."""
        private, keys = browser_keys()
        number = next(self._numbers)
        fields = {"endpoint": f"{self.origin}/{number}", "name": name, **keys, **fields}
        device = PushSubscription.objects.create(user_id=user.pk, created_at=now(), seen_at=now(), **fields)
        self.private_keys[f"/{number}"] = private, device.id
        return device

    def take(self, path, headers, body):
        """Verify and store a request; return the status and the headers of the answer."""
        private, device = self.private_keys[path]
        self.tries.append(device)
        scheme, _, parameters = headers["Authorization"].partition(" ")
        token, key = (part.split("=", 1)[1] for part in parameters.split(","))
        assert scheme == "vapid" and Vapid02.verify(headers["Authorization"])
        text = http_ece.decrypt(body, private_key=private, auth_secret=AUTH, version="aes128gcm")
        answer = self.answer(device, self.tries.count(device))
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        message = PushMessage(
            device=device,
            headers=headers,
            size=len(body),
            message=json.loads(text),
            claims=json.loads(from_base64url(token.split(".")[1])),
            public_key=key,
            status=status,
        )
        if status in (0, 201):
            self.messages.append(message)
        return status, more


@contextmanager
def push_service():
    """Run a push service; yield it."""
    service = PushService()
    try:
        yield service
    finally:
        service.closing.set()
        service.close()
