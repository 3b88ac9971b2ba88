"""The two databases, SQLite and PostgreSQL.

dialects                   what the two databases do in another way: others call its verbs
transactions               the app's own transactions, and callbacks after the commit of a caller's
bulk, updates, insertion, adapters  many rows, one row, values and keys of users in raw SQL
imports                    modules of the project, imported before a transaction
keyset                     pages of long tables
clock                      the database's clock, and stored times that a wrong one has made
pools, async_twins         pools of connections; calls of sync code from async code
threads, thread_calls, supervised  the executor of calls, and loops that are started when needed
thread_connections         the connections of a thread between two calls
job_threads, job_sessions  the calls of async jobs in threads, and what they set in their sessions
deadlines                  connections that do not answer
sqlstates, unavailable     what errors mean, and those that pass
outages                    errors for which a request is answered with 503
project_code, project_threads, signal_queue  code of the project: how it is called, and on which threads
schema, missing_tables     whether the tables are those of the installed models
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.db.adapters import user_from_db as user_from_db
    from notifications.db.adapters import user_keys_of as user_keys_of
    from notifications.db.adapters import user_to_db as user_to_db
    from notifications.db.bulk import insert_rows as insert_rows
    from notifications.db.bulk import lock_name as lock_name
    from notifications.db.bulk import lock_query as lock_query
    from notifications.db.bulk import new_row as new_row
    from notifications.db.bulk import where_in as where_in
    from notifications.db.clock import database_now as database_now
    from notifications.db.clock import database_now_sql as database_now_sql
    from notifications.db.clock import is_lease_valid as is_lease_valid
    from notifications.db.imports import import_path as import_path
    from notifications.db.job_sessions import app_sync_to_async as app_sync_to_async
    from notifications.db.keyset import read_ids as read_ids
    from notifications.db.project_code import catching as catching
    from notifications.db.transactions import chunks as chunks
    from notifications.db.transactions import connection as connection
    from notifications.db.transactions import database as database
    from notifications.db.transactions import dialect as dialect
    from notifications.db.transactions import execute_one as execute_one
    from notifications.db.transactions import fair_atomic as fair_atomic
    from notifications.db.transactions import retrying_atomic as retrying_atomic
    from notifications.db.unavailable import UNAVAILABLE as UNAVAILABLE
    from notifications.db.unavailable import is_unavailable as is_unavailable
    from notifications.db.unavailable import retry_while_unavailable as retry_while_unavailable
    from notifications.db.updates import update_rows_by_id as update_rows_by_id
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.db.adapters": "user_from_db user_keys_of user_to_db",
            "notifications.db.bulk": "insert_rows lock_name lock_query new_row where_in",
            "notifications.db.clock": "database_now database_now_sql is_lease_valid",
            "notifications.db.keyset": "read_ids",
            "notifications.db.imports": "import_path",
            "notifications.db.job_sessions": "app_sync_to_async",
            "notifications.db.project_code": "catching",
            "notifications.db.transactions": (
                "chunks connection database dialect execute_one fair_atomic retrying_atomic"
            ),
            "notifications.db.unavailable": ("UNAVAILABLE is_unavailable retry_while_unavailable"),
            "notifications.db.updates": "update_rows_by_id",
        },
    )
