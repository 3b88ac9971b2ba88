"""Parse the receipts of notifications, which pages send when they mark them as seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from notifications import times
from notifications.http.parsing import parse_integer
from notifications.problems import Problem
from notifications.streams.receipts import MAX_RECEIPTS, Receipt

#: What is older is not stored: the clock of the browser was set forward.
MAX_AGO_MS = 366 * 86_400_000
KEYS = {"raised", "received_ago_ms", "toast_ago_ms"}


def parse_receipts(value: Any) -> list[Receipt]:
    """Return the receipts of notifications. Raises Problem 422."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_RECEIPTS:
        raise Problem(422, f"receipts must be a list of at most {MAX_RECEIPTS} objects.", field="receipts")
    now = times.now()
    receipts = []
    for number, item in enumerate(value):
        name = f"receipts[{number}]"
        if not isinstance(item, dict) or not item.keys() <= KEYS:
            raise Problem(422, f"{name} must be an object with: {', '.join(sorted(KEYS))}.", field="receipts")
        raised, received = (
            parse_integer(item.get(key), f"{name}.{key}") for key in ("raised", "received_ago_ms")
        )
        toast = item.get("toast_ago_ms")
        if toast is not None:
            toast = parse_integer(toast, f"{name}.toast_ago_ms")
        if max(received, toast or 0) > MAX_AGO_MS:
            continue
        # Not before it was received, as a clock that was set back in between would say.
        toast_at = None if toast is None else now - timedelta(milliseconds=min(toast, received))
        receipts.append(Receipt(raised, now - timedelta(milliseconds=received), toast_at))
    return receipts
