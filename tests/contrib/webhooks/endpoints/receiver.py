"""A receiver of webhooks: a real server, which verifies with an implementation of its own, from the specification."""

import base64
import hashlib
import hmac
import json

from aiohttp import web

from tests.outbound.upstream import Upstream


def signature(secret, id, timestamp, body):
    """Return the signature of Standard Webhooks 1.0 for bytes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([id.encode(), timestamp.encode(), body])
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Receiver(Upstream):
    """Answers `POST /hook` with the next of `answers`, then with 204: statuses, or functions that respond."""

    def __init__(self):
        super().__init__()
        self.answers = []

    async def hook(self, request):
        answer = self.answers.pop(0) if self.answers else 204
        if callable(answer):
            answer = await answer(request)
        return web.Response(status=answer) if isinstance(answer, int) else answer

    @property
    def events(self):
        return [json.loads(request.body) for request in self.requests]

    @property
    def ids(self):
        return [request.headers["webhook-id"] for request in self.requests]


def signers(request, *secrets):
    """Return those of these secrets that have signed a request."""
    headers = request.headers
    signatures = headers["webhook-signature"].split(" ")
    return [
        secret
        for secret in secrets
        if signature(secret, headers["webhook-id"], headers["webhook-timestamp"], request.body) in signatures
    ]
