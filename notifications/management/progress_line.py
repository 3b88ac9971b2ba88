"""A line of progress on a terminal, for commands that may take long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

#: Seconds between two writes of the line.
INTERVAL_SECONDS = 0.2


class ProgressLine:
    """Shows ``12,000 of 100,000 users`` while a block runs, and removes it at the end; nothing if piped.

    ``total`` is None if it is not known. The line is written to standard error, so that output stays clean.
    """

    def __init__(self, noun: str, total: int | None = None, stream: TextIO | None = None) -> None:
        self._noun = noun
        self._total = total
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()
        self._count = 0
        self._written_at = 0.0
        self._width = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._width:
            self._stream.write(f"\r{'':{self._width}}\r")
            self._stream.flush()

    def add(self, count: int) -> None:
        """Count what was done, and write the line if the last one is old enough."""
        self._count += count
        now = time.monotonic()
        if not self._is_shown or now - self._written_at < INTERVAL_SECONDS:
            return
        self._written_at = now
        total = "" if self._total is None else f" of {self._total:,}"
        text = f"{self._count:,}{total} {self._noun}"
        self._stream.write(f"\r{text:<{self._width}}")
        self._stream.flush()
        self._width = max(self._width, len(text))
