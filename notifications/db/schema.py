"""Whether the tables in the database are those of the installed models.

Until the first release, commits change the first migration in place. In a database of an earlier commit ``migrate`` has
nothing to apply, and the first query of a new column would fail.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from notifications.db.threads import NoThread, start_thread
from notifications.db.transactions import connection, is_supported
from notifications.db.unavailable import QUERY_ERRORS
from notifications.extension import list_apps

logger = logging.getLogger("notifications")

#: Seconds for which the start of a process waits for the comparison.
MAX_START_WAIT_SECONDS = 2.0

#: Tables of the app before its optional parts became apps, by which a database of an earlier commit is known.
FORMER_TABLES = tuple(
    f"notifications_{name}"
    for name in (
        *("alert", "alertstate", "channeloutage", "delivery", "digest", "emailthrottle"),
        *(
            "jobcallback",
            "jobstatistics",
            "outputchunk",
            "overview",
            "preference",
            "pushsubscription",
            "reader",
        ),
        *("schedule", "step", "tick", "webhookattempt", "webhookendpoint"),
    )
)
#: All columns of some tables, and whether an INSERT must give them a value.
READ_COLUMNS = {
    "sqlite": """
        SELECT tables.name, columns.name, columns."notnull" AND columns.dflt_value IS NULL
        FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns WHERE tables.name IN ({})
    """,
    "postgresql": """
        SELECT relname, attname, attnotnull AND NOT atthasdef AND attidentity = ''
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relname IN ({}) AND pg_table_is_visible(pg_class.oid) AND attnum > 0 AND NOT attisdropped
    """,
}


def find_mismatch() -> str:
    """Return in one sentence how the tables differ from the models, with the remedy; "" if they do not.

    Compared are the app and its extensions, but those with migrations that are not applied yet. It makes one query, and
    a second one if there is a difference. Raises an error while the database is unavailable.
    """
    if not is_supported():
        return ""
    db = connection()
    models = [
        model
        for config in list_apps()
        for model in config.get_models(include_auto_created=True)
        if model._meta.can_migrate(db) and router.allow_migrate_model(db.alias, model)
    ]
    columns = _read_columns(db, [*FORMER_TABLES, *(model._meta.db_table for model in models)])
    problems: dict[str, str] = {}
    if former := sorted(columns.keys() & set(FORMER_TABLES)):
        return _refuse(db, f"it has the table {former[0]}")
    for model in models:
        if problem := _compare(model, columns.get(model._meta.db_table, {})):
            problems.setdefault(model._meta.app_label, problem)
    if problems:
        loader = MigrationLoader(db)
        unapplied = {label for label, name in loader.graph.nodes.keys() - loader.applied_migrations.keys()}
        for label in unapplied | loader.unmigrated_apps:
            problems.pop(label, None)
    return _refuse(db, next(iter(problems.values()))) if problems else ""


def _refuse(db: BaseDatabaseWrapper, difference: str) -> str:
    return (
        f"The database {db.alias!r} was made by an earlier commit ({difference}): move it aside, "
        "which is the folder var/ at the site, and run manage.py migrate."
    )


def require_present_schema() -> None:
    """Raise ``ImproperlyConfigured`` if the database was made by an earlier commit. Call it when a process starts.

    The process starts if the database is unavailable, since that may pass.
    """
    found: list[str] = []

    def read() -> None:
        try:
            found.append(find_mismatch())
        except QUERY_ERRORS as exc:
            logger.debug("Could not compare the tables with the models: %s", exc)
        finally:
            connections.close_all()

    try:
        # Servers load the application inside their event loop, where Django refuses queries.
        start_thread(read, "notifications-schema").join(MAX_START_WAIT_SECONDS)
    except NoThread as exc:
        logger.debug("Could not compare the tables with the models: %s", exc)
    if any(found):
        raise ImproperlyConfigured(found[0])


def _read_columns(db: BaseDatabaseWrapper, tables: list[str]) -> dict[str, dict[str, bool]]:
    """Return the columns of each table, with whether an INSERT must give them a value."""
    found: dict[str, dict[str, bool]] = {}
    with db.cursor() as cursor:
        cursor.execute(READ_COLUMNS[db.vendor].format(", ".join(["%s"] * len(tables))), tables)
        for table, column, is_required in cursor.fetchall():
            found.setdefault(table, {})[column] = is_required
    return found


def _compare(model: Any, found: dict[str, bool]) -> str:
    """Return what differs first; a column that no model has differs only if an INSERT must give it a value."""
    table = model._meta.db_table
    if not found:
        return f"there is no table {table}"
    columns = {field.column for field in model._meta.local_concrete_fields}
    if missing := sorted(columns - found.keys()):
        return f"{table} has no column {missing[0]}"
    required = {name for name, is_required in found.items() if is_required}
    if unknown := sorted(required - columns):
        return f"{table} has the former column {unknown[0]}"
    return ""
