"""Code of the project is called, and what it leaves on connections is undone."""

import sqlite3
from types import SimpleNamespace

from django.db import connections

from notifications.db import project_code


def test_connections_of_other_databases_are_not_closed(monkeypatch, caplog):
    """The driver of MySQL, for example, does not report whether a transaction is open."""
    closed = []
    other = SimpleNamespace(
        alias="other",
        vendor="mysql",
        autocommit=True,
        in_atomic_block=False,
        connection=object(),
        settings_dict={"AUTOCOMMIT": True},
        atomic_blocks=[],
        Database=sqlite3,
        savepoint_ids=[],
        close=lambda: closed.append(1),
    )
    monkeypatch.setattr(connections, "all", lambda initialized_only: [other])
    project_code.call("receiver", lambda: None)
    assert (closed, caplog.text) == ([], "")
