"""What is announced: a thing that can be wrong, with its present state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """An alert or a schedule.

    ``key``
        ``"schedule:nightly"`` for example, which is the key of the notifications too.
    ``state``
        "" if nothing is wrong.
    ``read_readers``
        Returns the keys of the users to be notified. Calls code of the project.
    ``describe``
        Takes the state that a reader was last notified of. Returns the arguments of ``notify()``, in the active
        language.
    """

    key: str
    state: str
    read_readers: Callable[[], list[Any]]
    describe: Callable[[str], dict[str, Any]]
