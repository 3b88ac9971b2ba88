"""A real SMTP server on loopback, which remembers what it has received and answers as a test says."""

import asyncio
from contextlib import contextmanager

from aiosmtpd.smtp import SMTP
from anyio.from_thread import start_blocking_portal


class Mailbox:
    """What the server has received.

    ``messages``
        Envelopes of aiosmtpd that were taken.
    ``answer(number)``
        Returns the answer to the message of this number, from 1; None breaks the connection after it was taken.
    ``answer_to_recipient``
        The answer to each recipient.
    ``refuse``
        The answers to new connections, by "greeting", to EHLO and HELO, by "ehlo", and to MAIL FROM, by "mail".
    """

    def __init__(self):
        self.messages = []
        self.tries = 0
        self.answer = lambda number: "250 OK"
        self.answer_to_recipient = "250 OK"
        self.refuse = {}
        self.port = None

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return [self.refuse["ehlo"]] if "ehlo" in self.refuse else responses

    async def handle_HELO(self, server, session, envelope, hostname):
        session.host_name = hostname
        return self.refuse.get("ehlo", "250 mail.example")

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self.refuse.get("mail", "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.answer_to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer_to_recipient

    async def handle_DATA(self, server, session, envelope):
        self.tries += 1
        answer = self.answer(self.tries)
        if answer is None or answer.startswith("250"):
            self.messages.append(envelope)
        if answer is None:
            server.transport.abort()
        return answer or "421 Closing"


class Server(SMTP):
    """One connection."""

    async def push(self, status):
        is_greeting = status.startswith("220 ") and self.session.host_name is None
        await super().push(self.event_handler.refuse.get("greeting", status) if is_greeting else status)


@contextmanager
def smtp_server(mailbox=None):
    """Run a server on a thread; yield its ``Mailbox``, whose ``port`` it listens to on 127.0.0.1."""
    mailbox = mailbox or Mailbox()

    async def listen():
        loop = asyncio.get_running_loop()
        make = lambda: Server(mailbox, loop=loop, hostname="mail.example")  # noqa: E731
        return await loop.create_server(make, "127.0.0.1", 0)

    with start_blocking_portal(name="smtp") as portal:
        server = portal.call(listen)
        mailbox.port = server.sockets[0].getsockname()[1]
        yield mailbox
        portal.call(server.close)
