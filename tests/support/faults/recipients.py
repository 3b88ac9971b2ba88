"""What arrives by e-mail, push and webhook: servers that also refuse, are slow, and break connections."""

import asyncio
import random
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from uuid import UUID

from aiohttp import web

from tests.contrib.webhooks.endpoints.receiver import Receiver
from tests.support.push_service import browser_keys, push_service
from tests.support.smtp_server import Mailbox, smtp_server

#: The number of a notification, which is in its title.
NUMBER = re.compile(r"\bNumber (\d+)\.")
#: Of a hundred messages, how many a server refuses for now, refuses for good, answers late, and does not answer.
REFUSED, REFUSED_FOR_GOOD, LATE, UNANSWERED = 3, 6, 3, 2


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A message that a server has taken.

    ``id``
        That of the message: of its delivery or its digest, of its notification and device, of its webhook.
    ``numbers``
        Those of the notifications in it.
    ``was_answered``
        Whether the server has answered.
    """

    id: str
    to: str
    numbers: tuple
    was_answered: bool
    hidden: int = 0
    at: float = field(default_factory=time.time)


class Moods:
    """How a server treats each message, at random until ``calm``."""

    def __init__(self, rng):
        self.rng, self.is_calm = rng, False

    def choose(self):
        chance = 1000 if self.is_calm else self.rng.random() * 100
        for mood, share in (
            ("refuse", REFUSED),
            ("fail", REFUSED_FOR_GOOD),
            ("late", LATE),
            ("break", UNANSWERED),
        ):
            if chance < share:
                return mood
            chance -= share
        return "take"


class MoodyMailbox(Mailbox):
    def __init__(self, moods):
        super().__init__()
        self.moods, self.receipts, self.refused = moods, [], {}
        #: Each message to one of these is refused for good, also a second time.
        self.rejected_addresses = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        mood = self.moods.choose()
        if mood == "break":
            server.transport.abort()
        if mood == "refuse":
            return "450 Not now"
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server, session, envelope):
        mood = self.moods.choose()
        if envelope.rcpt_tos[0] in self.rejected_addresses:
            mood = "fail"
        message = message_from_bytes(envelope.content, policy=policy.default)
        id = message["Message-ID"].strip("<>").partition("@")[0]
        if mood == "refuse":
            return "451 Later"
        if mood == "fail":
            self.refused.setdefault(id, []).append(time.time())
            return "554 Never"
        text = message.get_body(("plain",)).get_content()
        hidden = re.search(r"^(\d+) more (?:is|are) in the inbox", text, re.MULTILINE)
        receipt = Receipt(
            id=id,
            to=envelope.rcpt_tos[0],
            numbers=tuple(
                map(int, NUMBER.findall(text.partition("\n")[2] if "new notification" in text else text))
            ),
            was_answered=mood != "break",
            hidden=int(hidden[1]) if hidden else 0,
        )
        self.receipts.append(receipt)
        if mood == "late":
            await asyncio.sleep(0.5)
        if mood == "break":
            server.transport.abort()
        return "250 OK"


class MoodyReceiver(Receiver):
    def __init__(self, moods):
        self.moods, self.receipts = moods, []
        super().__init__()

    async def hook(self, request):
        mood = self.moods.choose()
        if mood == "refuse":
            return web.Response(status=503)
        event = await request.json()
        self.receipts.append(
            Receipt(
                id=request.headers["webhook-id"],
                to=request.path,
                numbers=tuple(map(int, NUMBER.findall(event["notification"]["title"]))),
                was_answered=mood != "break",
            )
        )
        if mood == "late":
            await asyncio.sleep(0.5)
        if mood == "break":
            request.transport.abort()
        return web.Response(status=204)


class Recipients:
    """The three servers."""

    def __init__(self, mailbox, service, receiver, moods):
        self.mailbox, self.service, self.receiver, self.moods = mailbox, service, receiver, moods
        service.answer = self._answer_push
        self._endpoints = 0

    def create_device(self, driver, user):
        """Subscribe a device of a user, and return its id."""
        private, keys = browser_keys()
        self._endpoints += 1
        path = f"/{self._endpoints}"
        device = driver.call("create_device", user=user, endpoint=self.service.origin + path, **keys)
        self.service.private_keys[path] = private, device
        return device

    def pushes(self):
        """Return the receipts of the push service; without numbers, because their content is not sent."""
        return [
            Receipt(
                id=f"{UUID(message.message['notification']['tag'])} {message.device}",
                to=message.device,
                numbers=(),
                was_answered=message.status != 0,
                at=message.at,
            )
            for message in list(self.service.messages)
        ]

    def _answer_push(self, device, number):
        mood = self.moods.choose()
        if mood == "late":
            time.sleep(0.5)
        return {"refuse": 503, "break": 0}.get(mood, 201)


@contextmanager
def recipients(seed):
    """Run the servers; yield them."""
    moods = Moods(random.Random(seed))
    with ExitStack() as stack:
        mailbox = stack.enter_context(smtp_server(MoodyMailbox(moods)))
        service = stack.enter_context(push_service())
        receiver = MoodyReceiver(moods)
        stack.callback(receiver.close)
        yield Recipients(mailbox, service, receiver, moods)
