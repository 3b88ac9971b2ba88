"""Parse frames of clients. The order of the checks is part of the protocol: size, JSON, object, op, order, values."""

from __future__ import annotations

from typing import Any

from notifications.realtime import close_reasons
from notifications.realtime.close_reasons import MAX_CLIENT_FRAME_BYTES, ProtocolViolation
from notifications.serializers import decode
from notifications.validators import MAX_INTEGER

#: Nested arrays and objects. The frames of the protocol have a depth of 1.
MAX_DEPTH = 32
OPS = ("hello", "sync", "ack", "ping")


def parse_frame(text: str | None, data: bytes | None, *, has_hello: bool) -> dict[str, Any]:
    """Return the frame in a message, given as ``text`` or binary ``data``: a dict with a valid ``op`` and valid values.

    ``has_hello`` says whether the client has sent its hello. Raises ``ProtocolViolation``.
    """
    if text is None:
        is_too_big = len(data or b"") > MAX_CLIENT_FRAME_BYTES
        raise ProtocolViolation(close_reasons.TOO_BIG if is_too_big else close_reasons.BAD_JSON)
    if len(text) > MAX_CLIENT_FRAME_BYTES or (
        not text.isascii() and len(text.encode(errors="surrogatepass")) > MAX_CLIENT_FRAME_BYTES
    ):
        raise ProtocolViolation(close_reasons.TOO_BIG)
    try:
        frame = decode(text)
    except (ValueError, RecursionError):
        raise ProtocolViolation(close_reasons.BAD_JSON) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper_than(MAX_DEPTH, frame):
        raise ProtocolViolation(close_reasons.BAD_JSON)
    if not isinstance(frame, dict):
        raise ProtocolViolation(close_reasons.NOT_OBJECT)
    op = frame.get("op")
    if not isinstance(op, str) or op not in OPS or (op == "hello" and has_hello):
        raise ProtocolViolation(close_reasons.BAD_OP)
    if op != "hello" and not has_hello:
        raise ProtocolViolation(close_reasons.NOT_HELLO)
    _check_values(op, frame)
    return frame


def _check_values(op: str, frame: dict[str, Any]) -> None:
    if op == "hello":
        if not isinstance(frame.get("epoch"), str | None):
            raise ProtocolViolation(close_reasons.BAD_EPOCH)
        if frame.get("seq") is not None and not _is_integer(frame["seq"]):
            raise ProtocolViolation(close_reasons.BAD_SEQ)
    elif op == "sync" and not _is_integer(frame.get("seq")):
        raise ProtocolViolation(close_reasons.BAD_SEQ)
    elif op == "ack" and not _is_integer(frame.get("n")):
        raise ProtocolViolation(close_reasons.BAD_ACK)


def _is_integer(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def _is_deeper_than(depth: int, value: Any) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, list | dict) for inner in level)
