"""One definition of what is temporarily not available, used everywhere."""

import errno

import pytest
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError

from notifications.db import unavailable
from notifications.worker import NoThread

RESOURCES = [
    *(OSError(number, "full") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)),
    *(MemoryError(), NoThread("none"), RuntimeError("can't start new thread")),
    *(OperationalError("away"), InterfaceError("closed")),
]


@pytest.mark.parametrize("exc", RESOURCES, ids=repr)
def test_what_is_not_available(exc):
    assert unavailable.is_unavailable(exc) and unavailable.is_query_error(exc)


@pytest.mark.parametrize(
    "exc", [ConnectionResetError(errno.ECONNRESET, "reset"), RuntimeError("other"), ValueError()]
)
def test_what_is_an_error_of_the_code(exc):
    assert not unavailable.is_query_error(exc)


@pytest.mark.parametrize("exc", [DataError("too long"), ProgrammingError("no such table")])
def test_what_the_database_refuses(exc):
    assert unavailable.is_query_error(exc) and not unavailable.is_unavailable(exc)
