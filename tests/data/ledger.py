"""Triggers that write down every number as it is given, in the transaction that gives it.

Rows carry only their last number, so a hole, or a number given twice, would leave no trace in them.
"""

from django.db import connection

TABLES = ("notifications_notification", "notifications_job")


def open_ledger():
    _run("CREATE TABLE given (user_id bigint, seq bigint, row_id varchar(36))")
    _run("CREATE INDEX given_by_user ON given (user_id, seq)")
    insert = "INSERT INTO given (user_id, seq, row_id) VALUES (NEW.user_id, NEW.seq, NEW.id)"
    if connection.vendor == "postgresql":
        _run(
            f"CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert}; RETURN NULL; END $$"
        )
    for name, table, event in _triggers():
        when = f"AFTER {event} ON {table} FOR EACH ROW WHEN (NEW.seq > 0)"
        if connection.vendor == "sqlite":
            _run(f"CREATE TRIGGER {name} {when} BEGIN {insert}; END")
        else:
            _run(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION give()")


def close_ledger():
    for name, table, _ in _triggers():
        _run(f"DROP TRIGGER {name}" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
    if connection.vendor == "postgresql":
        _run("DROP FUNCTION give()")
    _run("DROP TABLE given")


def given(user):
    """All numbers ever given to rows of a user (key), ascending: a hole or one given twice shows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM given WHERE user_id = %s ORDER BY seq", [user])
        return [seq for (seq,) in cursor.fetchall()]


def _triggers():
    """Name, table and event of each: most rows get a number later, what a worker tells is inserted with one."""
    for table in TABLES:
        yield f"give_{table}", table, "UPDATE OF seq"
        yield f"give_new_{table}", table, "INSERT"


def _run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
