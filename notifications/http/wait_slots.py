"""Limit how many requests of a user wait at the same time."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from notifications.problems import Problem

#: Waiting requests (long polls and event streams) of one user in one process.
MAX_WAITING_REQUESTS = 4
#: The ``Retry-After`` of a response when all wait slots of a user are taken.
RETRY_AFTER_SECONDS = 5

_lock = threading.Lock()
#: The slots of each user, as long as one of them is held.
_slots: WeakValueDictionary[Any, WeakSet[WaitSlot]] = WeakValueDictionary()


class WaitSlot:
    """The permission of one request to wait. It is held weakly: a forgotten one ends with its request."""

    __slots__ = ("__weakref__", "_slots_of_user")

    def __init__(self, slots_of_user: WeakSet[WaitSlot]) -> None:
        self._slots_of_user: WeakSet[WaitSlot] | None = slots_of_user

    def release(self) -> None:
        """Free the slot for another request. Repeated calls have no effect."""
        with _lock:
            slots, self._slots_of_user = self._slots_of_user, None
            if slots is not None:
                slots.discard(self)


def acquire_wait_slot(user: Any, limit: int = MAX_WAITING_REQUESTS) -> WaitSlot | None:
    """Return a slot for a request of this user (key), or None if all of them are taken."""
    with _lock:
        slots = _slots.get(user)
        if slots is None:
            slots = _slots[user] = WeakSet()
        if len(slots) >= limit:
            return None
        slot = WaitSlot(slots)
        slots.add(slot)
    return slot


def require_wait_slot(user: Any, limit: int = MAX_WAITING_REQUESTS) -> WaitSlot:
    """Return a slot for a request of this user (key). Raises Problem 429 if all of them are taken."""
    slot = acquire_wait_slot(user, limit)
    if slot is None:
        raise Problem(
            429,
            f"{limit} requests of this user are waiting already. "
            "End one of them, or send this one without waiting.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return slot
