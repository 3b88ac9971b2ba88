"""An ASGI application that sends numbered texts, each second one by the short way; a process of its own serves it."""

from notifications.realtime.servers import daphne_writer, uvicorn_writer
from notifications.realtime.servers.websocket_frames import encode_text_frame

#: What it sends: short, long, and all together more than the kernel takes.
SIZES = (1, 125, 126, 65_535, 65_536, 1_000_000, 10) * 16


def text(number):
    return f"{number}:ä" + "x" * SIZES[number]


async def application(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    write = daphne_writer.writer_of(send) or uvicorn_writer.writer_of(send)
    await send({"type": "websocket.send", "text": str(write is not None)})
    await receive()  # the client has begun to read nothing
    for number in range(len(SIZES)):
        if not (write and number % 2 and write(encode_text_frame(text(number).encode()))):
            await send({"type": "websocket.send", "text": text(number)})
    await receive()  # the client has read all: from the close on, Daphne gives it less than a second
    await send({"type": "websocket.close", "code": 4000})
    await receive()
    # It is closed: nothing can be written, and nothing fails.
    assert not (write and write(encode_text_frame(b"too late")))
