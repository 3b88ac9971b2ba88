"""A WebSocket that can send what libraries refuse: fragments, invalid UTF-8, frames that RFC 6455 forbids."""

import asyncio
import base64
import os
import struct
from urllib.parse import urlsplit

from websockets.frames import Frame

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Refused(Exception):
    """The status of the handshake was not 101."""

    def __init__(self, status):
        super().__init__(f"The status of the handshake is {status}.")
        self.status = status


class AnyFrame(Frame):
    """A frame that may be invalid."""

    def check(self):
        pass


class ResetTolerantProtocol(asyncio.StreamReaderProtocol):
    """Treat a reset as an end, so that data received before can still be read."""

    def connection_lost(self, exc):
        super().connection_lost(None)


class RawSocket:
    """A client: `await RawSocket.open(url, headers)`, then send() and receive()."""

    has_ack_request = False  # The server has requested an ack.

    @classmethod
    async def open(cls, url, headers):
        """Connect and shake hands. `headers` are (name, value) pairs in addition to those of every handshake."""
        parts = urlsplit(url)
        socket = cls()
        socket.reader = asyncio.StreamReader(limit=2**22)
        socket.transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: ResetTolerantProtocol(socket.reader), parts.hostname, parts.port
        )
        required = [
            ("Host", parts.netloc),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
            ("Sec-WebSocket-Version", "13"),
        ]
        lines = [f"GET {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*required, *headers])]
        socket.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head = (await socket.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        if status != 101:
            socket.close()
            raise Refused(status)
        socket.headers = head.lower()
        return socket

    def send(self, payload, opcode=TEXT, *, final=True, masked=True, reserved=0):
        """Send one frame. The error of a closed connection is raised by receive()."""
        bits = {f"rsv{number}": bool(reserved & 0x80 >> number) for number in (1, 2, 3)}
        self.transport.write(AnyFrame(opcode, payload, final, **bits).serialize(mask=masked))

    def send_parts(self, parts):
        """Send one text message in fragments."""
        for number, part in enumerate(parts):
            self.send(part, TEXT if number == 0 else 0, final=number == len(parts) - 1)

    async def receive(self):
        """Return the next text (str), or the close code (int) after the end; 1006 without one."""
        text = b""
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                payload = await self.reader.readexactly(size)
            except asyncio.IncompleteReadError:
                self.close()
                return 1006
            opcode = first & 0x0F
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                self.send(payload[:2], CLOSE)
                self.close()
                return struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            elif opcode in (0, TEXT):
                text += payload
                if first & 0x80:
                    return text.decode()

    def close(self):
        self.transport.close()
