"""What commands write: nothing in stored texts that a terminal cannot show, or that would look like another line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.core.management.base import OutputWrapper

#: Characters that a terminal executes, or that change the direction of the text around them. A title may have them.
#: Ends of lines and tabs are not among them.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


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
