"""What commands write: no text that a terminal cannot show or that looks like another line; a line of progress."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from django.core.management.base import OutputWrapper

#: Characters that a terminal executes, or that change the direction of the text around them. A title may have them.
#: Ends of lines and tabs are not among them.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: Seconds between two writes of a line of progress.
PROGRESS_INTERVAL_SECONDS = 0.2


class OutputFailed(Exception):
    """Output could not be written, because a disk is full for example."""


class EscapingOutput(OutputWrapper):
    """A stream that writes control characters, and those that its encoding does not have, with a backslash."""

    def write(
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        """Write a message. Raises ``OutputFailed``, and ``BrokenPipeError`` when its reader has ended."""
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        text = escape(str(msg)).encode(encoding, "backslashreplace").decode(encoding)
        try:
            super().write(text, style_func, ending)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputFailed(exc.strerror or str(exc)) from exc

    def write_line(self, text: str) -> None:
        """Write a text as one line: with a line end in it, a title could look like a line of the command."""
        first, *others = text.splitlines() or [""]
        self.write(" ".join([first.rstrip(), *(line.strip() for line in others)]))

    def write_plain(self, message: str) -> None:
        """Write a message without a color, as a note on standard error that is no error."""
        self.write(message, style_func=str)


def escape(text: str) -> str:
    """Return a text whose control characters are written as JSON writes them."""
    return CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escaping(output: Any) -> EscapingOutput:
    """Return a stream of Django's as one that escapes."""
    if isinstance(output, EscapingOutput):
        return output
    return EscapingOutput(getattr(output, "_out", output), ending=getattr(output, "ending", "\n"))


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
        if not self._is_shown or now - self._written_at < PROGRESS_INTERVAL_SECONDS:
            return
        self._written_at = now
        total = "" if self._total is None else f" of {self._total:,}"
        text = f"{self._count:,}{total} {self._noun}"
        self._stream.write(f"\r{text:<{self._width}}")
        self._stream.flush()
        self._width = max(self._width, len(text))
