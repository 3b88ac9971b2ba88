"""An ASGI application that sends numbered texts, every second one by a direct write. Tests serve it in a process."""

from notifications.realtime.servers import daphne, uvicorn
from notifications.realtime.servers.websocket_frames import encode_text_frame

#: The sizes of the texts: at the limits of the frame's length fields, and together more than the kernel buffers.
SIZES = (1, 125, 126, 65_535, 65_536, 1_000_000, 10) * 16


def text(number):
    return f"{number}:ä" + "x" * SIZES[number]


async def application(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    write = daphne.writer_of(send) or uvicorn.writer_of(send)
    await send({"type": "websocket.send", "text": str(write is not None)})
    await receive()  # the client does not read from now on
    for number in range(len(SIZES)):
        if not (write and number % 2 and write(encode_text_frame(text(number).encode()))):
            await send({"type": "websocket.send", "text": text(number)})
    await receive()  # the client has read all; after a close Daphne would drop unread data within a second
    await send({"type": "websocket.close", "code": 4000})
    await receive()
    # After the close, a direct write is refused and raises no error.
    assert not (write and write(encode_text_frame(b"too late")))
