"""What is stored of an exception: its path, its traceback, and where in the project's own code it was raised.

Failures are grouped by that location.
"""

from __future__ import annotations

import sysconfig
from functools import lru_cache
from pathlib import Path
from traceback import format_exception
from types import FrameType
from typing import Any

from notifications.extension import shipped
from notifications.validators import printable

#: Characters that are kept from the end of a traceback, and of a location.
MAX_TRACEBACK_CHARS, MAX_LOCATION_CHARS = 20_000, 300
#: Directories of installed packages, whose frames are not the project's own.
PACKAGE_DIRECTORIES = {"site-packages", "dist-packages"}


def find_location(exc: BaseException) -> str:
    """Return the innermost frame of an exception in the project's code, such as ``shop.tasks.report, line 12``.

    Without such a frame it is the innermost one; without a traceback ``""``.
    """
    found, innermost = None, None
    step = exc.__traceback__
    while step is not None:
        innermost = step
        if is_own_file(step.tb_frame.f_code.co_filename):
            found = step
        step = step.tb_next
    chosen = found or innermost
    if chosen is None:
        return ""
    return printable(f"{_name(chosen.tb_frame)}, line {chosen.tb_lineno}"[-MAX_LOCATION_CHARS:])


@lru_cache(maxsize=1000)
def is_own_file(filename: str) -> bool:
    """Return whether a source file belongs to the project: not to Python, an installed package or this app."""
    path = Path(filename)
    if filename.startswith("<") or not PACKAGE_DIRECTORIES.isdisjoint(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _foreign_folders())


@lru_cache(maxsize=1)
def _foreign_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return (Path(__file__).parents[1], Path(paths["stdlib"]), Path(paths["platstdlib"]))


def _name(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__")
    name = frame.f_code.co_qualname
    return f"{module}.{name}" if isinstance(module, str) else name


def class_path(kind: type) -> str:
    """Return the dotted path of a class as it is stored."""
    return f"{kind.__module__}.{kind.__qualname__}"[:500]


def drop_tracebacks(exc: BaseException | None) -> None:
    """Let go of the frames of an exception whose text is stored, of its causes, and of its group.

    They hold the locals of the task, and lead back to the exception by the frames that called it and have its outcome:
    all of that would live until the garbage collector runs.
    """
    found, left = set[int](), [exc]
    while left:
        each = left.pop()
        if each is None or id(each) in found:
            continue
        found.add(id(each))
        each.__traceback__ = None
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def describe_exception(exc: BaseException | None) -> dict[str, Any]:
    if exc is None:
        return {}
    shipped.add_note_of_remedy(exc)
    return {
        "exception_class_path": class_path(type(exc)),
        "traceback": printable("".join(format_exception(exc))[-MAX_TRACEBACK_CHARS:]),
        "location": find_location(exc),
    }
