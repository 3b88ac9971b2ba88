"""Frames that the server sends, as JSON text. ``docs/reference/protocol.md`` describes each frame."""

from __future__ import annotations

from collections.abc import Iterable

from notifications.realtime.servers.websocket_frames import encode_text_frame
from notifications.serializers import encode_json, text_size

BEAT_INTERVAL_SECONDS = 25
#: Bytes of all items in a frame. With its other keys, a frame stays below the 128 KiB of the protocol.
MAX_FRAME_BYTES = 127 * 1024
#: Bytes of the items of a snapshot, and of the active jobs in a frame.
MAX_SNAPSHOT_BYTES = 64 * 1024
MAX_JOBS_BYTES = 48 * 1024
#: Encodings of one frame that are kept, one per number. Each takes as much memory as the frame.
MAX_CACHED_ENCODINGS = 16
#: Requests an acknowledgment.
ACK = '"ack":true,'


class Frame:
    """A frame that is numbered for each subscriber and encoded once for all subscribers with the same number."""

    __slots__ = ("_encodings", "_head", "_size", "op", "seq", "tail")

    def __init__(self, op: str, tail: str, seq: int | None = None) -> None:
        """``tail`` is the text after ``{"op":…,"n":…,``; ``seq`` the position after the frame, None if unchanged."""
        self.op = op
        self.tail = tail
        self.seq = seq
        self._head = f'{{"op":"{op}","n":'
        self._size = len(self._head) + 1 + text_size(tail)
        self._encodings: dict[int, bytes] = {}

    def size(self, n: int) -> int:
        """Return the size in bytes of the text with number ``n``, without ``ack``."""
        return self._size + len(str(n))

    def text(self, n: int, ack: bool) -> str:
        """Return the JSON text with number ``n``. ``ack`` requests an acknowledgment."""
        return f"{self._head}{n},{ACK if ack else ''}{self.tail}"

    def encoded(self, n: int, ack: bool) -> bytes:
        """Return the text as a WebSocket frame."""
        key = -n if ack else n
        encoded = self._encodings.get(key)
        if encoded is None:
            if len(self._encodings) >= MAX_CACHED_ENCODINGS:
                self._encodings.clear()
            encoded = self._encodings[key] = encode_text_frame(self.text(n, ack).encode())
        return encoded


def take_fitting(texts: Iterable[str], max_bytes: int) -> list[str]:
    """Return as many of these texts, from the first on, as fit ``max_bytes`` with their commas; at least one."""
    fitting: list[str] = []
    total_bytes = 0
    for text in texts:
        total_bytes += 1 + text_size(text)
        if fitting and total_bytes > max_bytes:
            break
        fitting.append(text)
    return fitting


def welcome(subscriber_id: str) -> Frame:
    return Frame(
        "welcome", f'"subscriber":{encode_json(subscriber_id)},"protocol":1,"beat":{BEAT_INTERVAL_SECONDS}}}'
    )


def change(prev: int, seq: int, unread: int, unseen: int, items: list[str]) -> Frame:
    tail = f'"prev":{prev},"seq":{seq},"unread":{unread},"unseen":{unseen},"items":[{",".join(items)}]}}'
    return Frame("change", tail, seq)


def jobs(items: list[str]) -> Frame:
    return Frame("jobs", f'"jobs":[{",".join(items)}]}}')


def sync(
    epoch: str,
    prev: int | None,
    seq: int,
    unread: int,
    unseen: int,
    items: list[str],
    jobs: list[str] | None,
) -> Frame:
    """Return a catch-up frame up to ``seq``. ``prev`` None makes it a reset, ``jobs`` None says that more follow."""
    start = "null" if prev is None else prev
    reset = "true" if prev is None else "false"
    more = "true" if jobs is None else "false"
    end = "" if jobs is None else f',"jobs":[{",".join(jobs)}]'
    return Frame(
        "sync",
        f'"epoch":{encode_json(epoch)},"prev":{start},"seq":{seq},"reset":{reset},"more":{more},"unread":{unread},'
        f'"unseen":{unseen},"items":[{",".join(items)}]{end}}}',
        seq,
    )


def encode_unnumbered(frame: Frame) -> str:
    """Return the JSON text of a frame for HTTP, where frames have no ``n``."""
    return f'{{"op":"{frame.op}",{frame.tail}'


def beat(seq: int) -> str:
    return f'{{"op":"beat","seq":{seq}}}'
