"""An extension whose hooks fail in one way, until they are mended."""

import asyncio

from django.db import IntegrityError, InternalError, connection

from notifications import testing
from notifications.extension import Extension
from tests.support import extensions


def raise_error(*args, **kwargs):
    raise RuntimeError("No.")


def return_none(*args, **kwargs):
    return None


async def run_async(*args, **kwargs):
    await asyncio.sleep(0)


def exit_process(*args, **kwargs):
    raise SystemExit("Out of order.")


def cancel(*args, **kwargs):
    raise asyncio.CancelledError


def raise_database_error(*args, **kwargs):
    """Raise one of the database, after which PostgreSQL refuses every query of the transaction."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
    raise IntegrityError("It is there already.")


def raise_operational_error(*args, **kwargs):
    """Raise what means elsewhere that the database is away."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_lock('x')")
        cursor.execute("SELECT abs(-9223372036854775807 - 1)")


def raise_read_only(*args, **kwargs):
    """Raise what another database raises for a hook while it is read-only, with the code of PostgreSQL."""
    cause = Exception()
    cause.sqlstate = "25006"
    raise InternalError("cannot execute INSERT in a read-only transaction") from cause


def raise_os_error(*args, **kwargs):
    raise FileNotFoundError("No such file.")


#: What a hook may do that it must not.
FAULTS = {
    "raises": raise_error,
    "is async": run_async,
    "exits": exit_process,
    "is cancelled": cancel,
    "fails in the database": raise_database_error,
    "is refused by the database": raise_operational_error,
    "writes where nothing is written": raise_read_only,
    "finds no file": raise_os_error,
}


class Faulty(Extension):
    name, label = "notifications.testing", "faulty"

    def __init__(self):
        super().__init__(self.name, testing)
        #: What its hooks do; None what those do that are not defined.
        self.fault = None
        self.calls = []


def install(monkeypatch, *names, fault=None):
    """Install an extension that defines these hooks. They do what its attribute ``fault`` does."""

    def define(name):
        def hook(self, *args, **kwargs):
            self.calls.append(name)
            if self.fault:
                return self.fault(*args, **kwargs)
            return getattr(Extension, name)(self, *args, **kwargs)

        return hook

    made = type("Faulty", (Faulty,), {name: define(name) for name in names})()
    extensions.install(monkeypatch, made)
    made.fault = fault
    return made
