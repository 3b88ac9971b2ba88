"""Which errors mean that the database, threads, memory, descriptors or disk space are not available now.

They are temporary: the app's loops try again, and a request is answered with 503. Other errors mean that a call is
wrong, or that the database refuses what it is given.
"""

from __future__ import annotations

import errno

from django.db import InterfaceError, OperationalError

from notifications.db.threads import NoThread

#: For ``except`` around the app's own database work, where an OSError can only come from the way to the database:
#: psycopg raises a bare one where there is no free descriptor. Around code of the project use ``is_unavailable()``.
UNAVAILABLE = (OperationalError, InterfaceError, NoThread, MemoryError, OSError)
#: No descriptor in the process, none in the system, no memory, no room on the disk.
ERROR_NUMBERS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
#: The RuntimeError of Python where a process cannot start a thread; asgiref lets it through.
NO_THREAD_MESSAGE = "can't start new thread"


def is_unavailable(exc: BaseException) -> bool:
    """Return whether an error means that the database is away or busy, or that the process lacks a resource."""
    if isinstance(exc, OSError):
        return exc.errno in ERROR_NUMBERS
    return isinstance(exc, UNAVAILABLE) or (isinstance(exc, RuntimeError) and str(exc) == NO_THREAD_MESSAGE)
