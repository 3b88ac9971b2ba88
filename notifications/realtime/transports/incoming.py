"""Reading what clients send. The order of checks is part of the protocol: size, JSON, object, op, order, values."""

from __future__ import annotations

import json
from typing import Any

from notifications.realtime import close_reasons
from notifications.realtime.close_reasons import Refused

#: Bytes of a frame from a client at most.
FRAME_BYTES = 4096
#: Arrays and objects within one another; a client of ours needs one.
DEPTH = 32
LARGEST = 2**53 - 1
OPS = ("hello", "sync", "ack", "ping")


def parse(text: str | None, data: bytes | None, *, greeted: bool) -> dict[str, Any]:
    """Return the frame in a message of a client, a dict whose ``op`` may come now and whose values are right.

    ``greeted``: whether its hello was there. Raises Refused.
    """
    if text is None:
        raise Refused(close_reasons.TOO_BIG if len(data or b"") > FRAME_BYTES else close_reasons.BAD_JSON)
    if len(text) > FRAME_BYTES or (
        not text.isascii() and len(text.encode(errors="surrogatepass")) > FRAME_BYTES
    ):
        raise Refused(close_reasons.TOO_BIG)
    try:
        frame = _decode(text)
    except (ValueError, RecursionError):
        raise Refused(close_reasons.BAD_JSON) from None
    if text.count("[") + text.count("{") > DEPTH and _deeper(frame, DEPTH):
        raise Refused(close_reasons.BAD_JSON)
    if not isinstance(frame, dict):
        raise Refused(close_reasons.NOT_OBJECT)
    op = frame.get("op")
    if not isinstance(op, str) or op not in OPS or (op == "hello" and greeted):
        raise Refused(close_reasons.BAD_OP)
    if op != "hello" and not greeted:
        raise Refused(close_reasons.NOT_HELLO)
    _check_values(op, frame)
    return frame


def _check_values(op: str, frame: dict[str, Any]) -> None:
    if op == "hello":
        if not isinstance(frame.get("epoch"), str | None):
            raise Refused(close_reasons.BAD_EPOCH)
        if frame.get("seq") is not None and not _is_integer(frame["seq"]):
            raise Refused(close_reasons.BAD_SEQ)
    elif op == "sync" and not _is_integer(frame.get("seq")):
        raise Refused(close_reasons.BAD_SEQ)
    elif op == "ack" and not _is_integer(frame.get("n")):
        raise Refused(close_reasons.BAD_ACK)


def _is_integer(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")


# Made once: json.loads would make one for each frame.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _deeper(value: Any, depth: int) -> bool:
    """Whether there are more than ``depth`` arrays and objects within one another; without recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, list | dict) for inner in level)
