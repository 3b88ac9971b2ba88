"""A real SMTP server on loopback, which remembers what it has received and answers as a test says."""

import asyncio
import threading
from contextlib import contextmanager

from aiosmtpd.smtp import SMTP


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
    mailbox, loop = mailbox or Mailbox(), asyncio.new_event_loop()
    listening = loop.create_server(
        lambda: Server(mailbox, loop=loop, hostname="mail.example"), "127.0.0.1", 0
    )
    server = loop.run_until_complete(listening)
    mailbox.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="smtp")
    thread.start()
    try:
        yield mailbox
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(end_connections())
        loop.close()


async def end_connections():
    """Cancel all tasks of the running loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # sockets are closed by the next turn of the loop
