"""WebSockets on uvicorn. Imports uvicorn and websockets, so import it only where both are installed."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError

from notifications.realtime.servers.websocket_frames import FrameCounter

logger = logging.getLogger("notifications")


class UvicornWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is closed when a client exceeds the limits of ``FrameCounter``.

    It also answers a handshake with a header line over 8 KiB, which uvicorn 0.54 leaves open, and closes with 1007 for
    text that is not UTF-8, for which uvicorn logs a traceback.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frame_counter = FrameCounter()
        self.handle_frame = self.conn.recv_frame
        # websockets calls it for each frame. A limit in data_received() would come too late: that parses all at once.
        self.conn.recv_frame = self.count_frame  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # websockets has prepared the response, 414 or 431, if the data was a request.
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def count_frame(self, frame: Any) -> None:
        if not self.frame_counter.allows(frame.opcode, len(frame.data), is_closing=self.close_sent):
            logger.info("Dropped a WebSocket that sent too many frames: %s", self.client)
            raise ProtocolError("too many frames")
        self.handle_frame(frame)

    def send_receive_event_to_app(self) -> None:
        # After the close was sent, messages are discarded unread, and a second close would raise an error.
        if not self.close_sent and self.curr_msg_data_type == "text" and not self._is_utf8():
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def _is_utf8(self) -> bool:
        data = b"".join(self.frames)
        if data.isascii():
            return True
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True
