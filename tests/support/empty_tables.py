"""Empty the tables after a test that commits, in less time than Django's ``flush``.

``flush`` creates all content types and permissions again, and on PostgreSQL it truncates each table, which makes new
files: together half of the time of a short test. Here those rows stay, and a table is only truncated if its size or its
statistics would change the plans of later tests.

On SQLite the connection stays open too, where Django closes it: to open it and prepare each statement anew was a third
of the time of a short test. Django wants the statements again that it has executed when it connected, for a test may
have rolled them back. On SQLite those are PRAGMAs, which no rollback undoes.
"""

from functools import cache

from django.db import connection, connections, transaction
from django.test import TransactionTestCase

KEPT_TABLES = {"django_content_type", "auth_permission"}  # whose rows ``migrate`` makes
#: The size, deleted rows included, up to which PostgreSQL plans for a table without statistics as for an empty one.
MAX_DELETED_BYTES = 10 * 8192

EMPTY_ON_POSTGRES = """
DO $$
DECLARE
    names regclass[] := %s;
    name regclass;
BEGIN
    -- Waits for transactions that threads have left open: their rows would appear in the next test.
    EXECUTE format('LOCK TABLE %%s IN SHARE ROW EXCLUSIVE MODE', array_to_string(names, ', '));
    -- In this order: a table with rows that were deleted in the transaction cannot be truncated.
    FOREACH name IN ARRAY names LOOP
        IF pg_relation_size(name) > {limit} OR (SELECT reltuples >= 0 FROM pg_class WHERE oid = name) THEN
            EXECUTE format('TRUNCATE %%s CASCADE', name);
        END IF;
    END LOOP;
    FOREACH name IN ARRAY names LOOP
        IF pg_relation_size(name) > 0 THEN
            EXECUTE format('DELETE FROM %%s', name);
        END IF;
    END LOOP;
END $$
"""


def install():
    """Have each ``TransactionTestCase`` end with it, and so each test with ``transactional_db``."""
    TransactionTestCase._fixture_teardown = _empty_databases
    TransactionTestCase._should_reload_connections = lambda test_case: connection.vendor != "sqlite"


def _empty_databases(test_case):
    from notifications.realtime import flush  # it has models

    flush()  # the publishing thread has no database after the test
    for alias in test_case._databases_names(include_mirrors=False):
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            _empty_tables(connections[alias], cursor, _table_names(alias))


def _empty_tables(connection, cursor, names):
    if connection.vendor == "postgresql":
        literal = connection.ops.compose_sql("%s", [list(names)])
        cursor.execute(EMPTY_ON_POSTGRES.format(limit=MAX_DELETED_BYTES) % literal)
        return
    cursor.execute(_find_filled(*names))
    for (name,) in cursor.fetchall():
        if is_of_analyze := name.startswith("sqlite_stat"):  # a connection knows it until it is closed
            transaction.on_commit(connection.close, using=connection.alias)
        cursor.execute(
            f"{'DROP TABLE' if is_of_analyze else 'DELETE FROM'} {connection.ops.quote_name(name)}"
        )


@cache
def _find_filled(*names):
    """Return a query for those of these tables that have rows: few of them, and one statement is less than fifty."""
    filled = [f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in names]
    return " UNION ALL ".join([*filled, "SELECT name FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'"])


@cache
def _table_names(alias):
    names = connections[alias].introspection.django_table_names(only_existing=True, include_views=False)
    return sorted(set(names) - KEPT_TABLES)
