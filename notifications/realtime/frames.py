"""Frames that the server sends, as JSON text. ``docs/reference/protocol.md`` describes each frame."""

from __future__ import annotations

from collections.abc import Iterable

from notifications.realtime.servers.framing import websocket_frame
from notifications.serializers import encode, encoded_size

#: Seconds between two beats.
BEAT = 25
#: Bytes of all items in one frame, which with what is around them stays below 128 KiB; of a snapshot; of active jobs.
FRAME_BYTES = 127 * 1024
SNAPSHOT_BYTES = 64 * 1024
JOBS_BYTES = 48 * 1024
#: Numbers of one frame for which its bytes are kept: more may be of use to a crowd, and each costs as much memory.
MAX_ENCODED = 16
#: What asks for an ack.
ACK = '"ack":true,'


class Frame:
    """A frame that is numbered for each subscriber, and encoded once for all subscribers with the same number."""

    __slots__ = ("_encoded", "_head", "_size", "op", "seq", "tail")

    def __init__(self, op: str, tail: str, seq: int | None = None) -> None:
        """``tail``: the text after ``{"op":…,"n":…,``; ``seq``: the position after it, None if it does not move it."""
        self.op = op
        self.tail = tail
        self.seq = seq
        self._head = f'{{"op":"{op}","n":'
        self._size = len(self._head) + 1 + (len(tail) if tail.isascii() else len(tail.encode()))
        self._encoded: dict[int, bytes] = {}

    def size(self, n: int) -> int:
        """Return the bytes of its text with this number, without ``ack``."""
        return self._size + len(str(n))

    def text(self, n: int, ack: bool) -> str:
        """Return its text with this number; ``ack``: it asks for one."""
        return f"{self._head}{n},{ACK if ack else ''}{self.tail}"

    def encoded(self, n: int, ack: bool) -> bytes:
        """Return the same as a WebSocket frame."""
        key = -n if ack else n
        encoded = self._encoded.get(key)
        if encoded is None:
            if len(self._encoded) >= MAX_ENCODED:
                self._encoded.clear()
            encoded = self._encoded[key] = websocket_frame(self.text(n, ack).encode())
        return encoded


def fit(texts: Iterable[str], limit: int) -> list[str]:
    """Return the first of these texts, as many as fit ``limit`` bytes with their commas; the first one always."""
    kept: list[str] = []
    total = 0
    for text in texts:
        total += encoded_size([text])
        if kept and total > limit:
            break
        kept.append(text)
    return kept


def welcome(subscriber: str) -> Frame:
    return Frame("welcome", f'"subscriber":{encode(subscriber)},"protocol":1,"beat":{BEAT}}}')


def change(prev: int, seq: int, unread: int, items: list[str]) -> Frame:
    tail = f'"prev":{prev},"seq":{seq},"unread":{unread},"items":[{",".join(items)}]}}'
    return Frame("change", tail, seq)


def jobs(items: list[str]) -> Frame:
    return Frame("jobs", f'"jobs":[{",".join(items)}]}}')


def sync(
    epoch: str, prev: int | None, seq: int, unread: int, items: list[str], jobs: list[str] | None
) -> Frame:
    """A catch-up up to ``seq``: ``prev`` None is a reset; ``jobs`` None says that more follows."""
    start = "null" if prev is None else prev
    reset = "true" if prev is None else "false"
    more = "true" if jobs is None else "false"
    end = "" if jobs is None else f',"jobs":[{",".join(jobs)}]'
    return Frame(
        "sync",
        f'"epoch":{encode(epoch)},"prev":{start},"seq":{seq},"reset":{reset},"more":{more},"unread":{unread},'
        f'"items":[{",".join(items)}]{end}}}',
        seq,
    )


def unnumbered(frame: Frame) -> str:
    """Return the text of a frame for HTTP, where frames have no ``n``."""
    return f'{{"op":"{frame.op}",{frame.tail}'


def beat(seq: int) -> str:
    return f'{{"op":"beat","seq":{seq}}}'
