"""A push service on loopback, which decrypts what it receives as a browser does and answers as a test says."""

import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from notifications.contrib.deliveries.models import PushSubscription
from notifications.times import now

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


class PushService:
    """Its devices, and what they have received.

    ``answer(device, number)``
        Returns the status of the answer to a device, with the number of its requests, or a pair of it and headers.
        None is silence; 0 breaks the connection after the message was taken.
    """

    def __init__(self):
        self.messages, self.tries = [], []
        self.answer = lambda device, number: 201
        self.body = b""
        self.closing = threading.Event()
        self.private_keys = {}
        self._numbers = count(1)
        self.port = None

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, more = service.take(self.path, self.headers, body)
            except Exception as exc:
                status, more = 418, {"X-Problem": repr(exc)}
            if status is None:  # silence
                service.closing.wait()
                return
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(service.body)))
            self.end_headers()
            self.wfile.write(service.body)

        def log_message(self, *args):
            pass

        def handle(self):
            try:
                super().handle()
            except OSError:  # the client has closed the connection
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.port = server.server_port
    # It looks so often, in seconds, whether the test is over.
    thread = threading.Thread(target=server.serve_forever, args=[0.02], name="push service")
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
