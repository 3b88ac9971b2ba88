"""One definition of what is temporarily not available, used everywhere."""

import ast
import errno
from pathlib import Path

import pytest
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError

import notifications
from notifications.db import unavailable
from notifications.worker import NoThread
from tests.support.sources import list_nodes

PACKAGE = Path(notifications.__file__).parent
#: What is imported to define it, to raise it, to tell apart what the database refuses, or for the text of a command.
ALLOWED = {
    **dict.fromkeys(["db/sqlstates.py", "db/unavailable.py", "db/transactions.py"], "any"),
    "db/schema.py": "OperationalError",  # which it raises while a table is missing
    # To log one of the database without a traceback.
    **dict.fromkeys(["problems.py", "realtime/servers/overload.py"], "Error"),
    "db/outages.py": "Error",  # whose alias says whose database it is
    "extension/calls.py": "Error",  # by which PostgreSQL refuses to release a savepoint
    "testing/inline.py": "DatabaseError",  # what a statement of a test's transaction raises
    **dict.fromkeys(
        [
            f"management/{name}.py"
            for name in (
                *("commands/notify", "diagnosis/checking", "management_command"),
                *(f"subcommands/{name}" for name in ("doctor", "new_epoch", "prune")),
            )
        ],
        "Error",
    ),
}
NAMES = {"DatabaseError", "Error", "InterfaceError", "OperationalError"}


def test_other_modules_use_the_definition():
    """Their own lists of exceptions would lack one: psycopg raises a bare OSError where there is no descriptor."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in list_nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module in ("django.db", "django.db.utils"):
                imported = {alias.name for alias in node.names} & NAMES
                if ALLOWED.get(name) != "any" and imported - {ALLOWED.get(name)}:
                    found.append(f"{name}: {', '.join(sorted(imported))}")
    assert not found


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
