"""Triggers that record every seq in the transaction that assigns it, to a row or to a move of ``seen``.

Rows have only their last seq, so a gap or a seq that was assigned twice cannot be seen in them.
"""

from django.db import connection

TABLES = ("notifications_notification", "notifications_job")


#: Records the head after a move of ``seen``, which takes one position.
SEEN_INSERT = "INSERT INTO assigned_seq (user_id, seq, row_id) VALUES (NEW.user_id, NEW.head, 'seen')"
SEEN_EVENT = "AFTER UPDATE OF seen ON notifications_stream FOR EACH ROW WHEN (NEW.seen <> OLD.seen)"


def open_ledger():
    _run("CREATE TABLE assigned_seq (user_id bigint, seq bigint, row_id varchar(36))")
    _run("CREATE INDEX assigned_seq_by_user ON assigned_seq (user_id, seq)")
    insert = "INSERT INTO assigned_seq (user_id, seq, row_id) VALUES (NEW.user_id, NEW.seq, NEW.id)"
    if connection.vendor == "postgresql":
        _run(
            f"CREATE FUNCTION record_seq() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert}; RETURN NULL; END $$"
        )
    for name, table, event in _triggers():
        when = f"AFTER {event} ON {table} FOR EACH ROW WHEN (NEW.seq > 0)"
        if connection.vendor == "sqlite":
            _run(f"CREATE TRIGGER {name} {when} BEGIN {insert}; END")
        else:
            _run(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION record_seq()")
    if connection.vendor == "sqlite":
        _run(f"CREATE TRIGGER record_seen {SEEN_EVENT} BEGIN {SEEN_INSERT}; END")
    else:
        _run(
            "CREATE FUNCTION record_seen() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {SEEN_INSERT}; RETURN NULL; END $$"
        )
        _run(f"CREATE TRIGGER record_seen {SEEN_EVENT} EXECUTE FUNCTION record_seen()")


def close_ledger():
    for name, table, _ in _triggers():
        _run(f"DROP TRIGGER {name}" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
    _run("DROP TRIGGER record_seen" + (" ON notifications_stream" * (connection.vendor == "postgresql")))
    if connection.vendor == "postgresql":
        _run("DROP FUNCTION record_seq()")
        _run("DROP FUNCTION record_seen()")
    _run("DROP TABLE assigned_seq")


def assigned_seqs(user):
    """Return all seqs ever assigned for a user (a key), ascending, with gaps and duplicates."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM assigned_seq WHERE user_id = %s ORDER BY seq", [user])
        return [seq for (seq,) in cursor.fetchall()]


def _triggers():
    """Yield the name, table and event of each trigger: rows get a seq by an update, or are inserted with one."""
    for table in TABLES:
        yield f"record_seq_{table}", table, "UPDATE OF seq"
        yield f"record_new_seq_{table}", table, "INSERT"


def _run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
