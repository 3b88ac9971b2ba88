"""Statements of this process, on any thread, that fail or at which something else happens first.

with refused("UPDATE notifications_job", times=2):       # as if the database was away
with preceded("DELETE FROM notifications_worker", renew):
"""

import re
import threading
from contextlib import contextmanager, suppress

import pytest
from django.db import OperationalError
from django.db.backends.utils import CursorWrapper

#: ``is_other``: what this thread does is done by another one, and nothing happens before its statements.
THREAD = threading.local()


@contextmanager
def preceded(pattern, function, times=1):
    """Call a function, whose error is theirs, before the first statements that match, with parameters. Yields them."""
    found, execute = [], CursorWrapper._execute_with_wrappers

    def execute_after(cursor, sql, params, many, executor):
        is_first = times is None or len(found) < times
        if is_first and not hasattr(THREAD, "is_other") and re.search(pattern, f"{sql} {params}"):
            found.append(sql)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(THREAD, "is_other", True, raising=False)
                function()
        return execute(cursor, sql, params, many, executor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CursorWrapper, "_execute_with_wrappers", execute_after)
        yield found


def refused(pattern, times=None, error=OperationalError):
    """Have statements that match raise this error: all of them, or the first ones."""

    def refuse():
        raise error("The database is away.")

    return preceded(pattern, refuse, times)


class Killed(BaseException):
    pass


@contextmanager
def mortal():
    """Yield ``kill(after=0)``: so many statements later this process is killed, and the block executes no more."""
    left = []

    def check():
        left[:] = [each - 1 for each in left]
        if left and left[0] < 0:
            raise Killed

    with suppress(Killed), preceded("", check, times=None):
        yield lambda after=0: left.append(after)
