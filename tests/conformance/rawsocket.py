"""A WebSocket that can also say what no library would: fragments, broken UTF-8, frames that RFC 6455 forbids."""

import asyncio
import base64
import os
import struct
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status):
        super().__init__(f"The handshake was answered {status}.")
        self.status = status


class Patient(asyncio.StreamReaderProtocol):
    """A reset is an end: what came before it can still be read."""

    def connection_lost(self, exc):
        super().connection_lost(None)


class RawSocket:
    """`await RawSocket.open(url, headers)`, then send…() and receive(); after the end receive() is the close code."""

    asked = False  # an ack was asked for

    @classmethod
    async def open(cls, url, headers):
        """Shake hands; headers are (name, value) pairs beside those that every handshake has."""
        parts = urlsplit(url)
        socket = cls()
        socket.reader = asyncio.StreamReader(limit=2**22)
        socket.transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: Patient(socket.reader), parts.hostname, parts.port
        )
        usual = [
            ("Host", parts.netloc),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
            ("Sec-WebSocket-Version", "13"),
        ]
        lines = [f"GET {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*usual, *headers])]
        socket.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head = (await socket.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        if status != 101:
            socket.close()
            raise Refused(status)
        socket.headers = head.lower()
        return socket

    def send(self, payload, opcode=TEXT, *, final=True, masked=True, reserved=0):
        """Send one frame. Errors of a connection that is gone are found when it is read."""
        mask = os.urandom(4)
        first = (0x80 if final else 0) | reserved | opcode
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", first, size | (0x80 if masked else 0))
        elif size < 65536:
            head = struct.pack("!BBH", first, 126 | (0x80 if masked else 0), size)
        else:
            head = struct.pack("!BBQ", first, 127 | (0x80 if masked else 0), size)
        if masked:
            repeated = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
            head += mask
        self.transport.write(head + payload)

    def send_parts(self, parts):
        """Send one text message in fragments."""
        for number, part in enumerate(parts):
            self.send(part, TEXT if number == 0 else 0, final=number == len(parts) - 1)

    async def receive(self):
        """The next text (str), or the close code (int) once it is over; 1006 where none was said."""
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
