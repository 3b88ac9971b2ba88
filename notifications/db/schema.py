"""Whether the tables in the database are those of the installed models.

They differ while ``migrate`` was not run, when another version or commit has migrated them, or when something else has
changed them. The first query of a column that does not exist would fail, or each INSERT that a newer column refuses.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db import missing_tables
from notifications.db.dialects import dialect_of, find_dialect
from notifications.db.threads import NoThread, start_thread
from notifications.db.transactions import connection, in_callers_transaction
from notifications.db.unavailable import QUERY_ERRORS, errors_of_missing_tables
from notifications.extension.installed import list_apps

logger = logging.getLogger("notifications")

#: Seconds for which the start of a process waits for the comparison.
MAX_START_WAIT_SECONDS = 2.0


class Mismatch(NamedTuple):
    """A difference between the tables and the models, with the remedy, and whether that is to run ``migrate``."""

    problem: str
    remedy: str
    is_unmigrated: bool = False
    #: Whether the tables are those of another app with the same label: check E001.
    is_of_other_app: bool = False

    @property
    def text(self) -> str:
        return f"{self.problem} {self.remedy}"


def tables_of_other_app() -> Mismatch:
    """Return the difference of a database with the tables of another app, such as django-notifications-hq."""
    return Mismatch(
        "This database holds the tables of another app with the label 'notifications' (django-notifications-hq?).",
        "Set them aside: ALTER TABLE notifications_notification RENAME TO hq_notification; "
        "UPDATE django_migrations SET app = 'hq_notifications' WHERE app = 'notifications'. "
        'Then run manage.py migrate. The page "From django-notifications-hq" of the documentation has the import.',
        is_of_other_app=True,
    )


def is_supported() -> bool:
    """Return whether the app can use its database, without a connection to it."""
    return find_dialect(connection()) is not None


def find_mismatch() -> Mismatch | None:
    """Return how the tables of the app and its extensions differ from the models, None if they do not.

    It makes one query, and a second one if there is a difference. Raises an error while the database is unavailable.
    """
    if not is_supported():
        return None
    db = connection()
    models = [
        model
        for config in list_apps()
        for model in config.get_models(include_auto_created=True)
        if model._meta.can_migrate(db) and router.allow_migrate_model(db.alias, model)
    ]
    if not models:  # as in a schema of django-tenants that does not have the app
        return None
    columns = _read_columns(db, [model._meta.db_table for model in models])
    problems: dict[str, str] = {}
    for model in models:
        if problem := _compare(model, columns.get(model._meta.db_table, {})):
            problems.setdefault(model._meta.app_label, problem)
    return _explain(db, problems) if problems else None


def is_of_other_app(applied: Container[tuple[str, str]]) -> bool:
    """Return whether the applied migrations with the label of this app are those of another app."""
    # If this app's first migration is recorded too, the row is a leftover and the tables are this app's.
    return ("notifications", "0001_initial") in applied and ("notifications", "0001_streams") not in applied


def _explain(db: BaseDatabaseWrapper, problems: dict[str, str]) -> Mismatch | None:
    """Return the problem to report, of the first problems of some apps by their labels; first one to refuse."""
    # Each start would import it.
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(db)
    applied = loader.applied_migrations.keys()
    if is_of_other_app(applied):
        return tables_of_other_app()
    unapplied = {label for label, _ in loader.graph.nodes.keys() - applied}
    unknown = dict(sorted(applied - loader.disk_migrations.keys()))
    found = None
    for label, problem in problems.items():
        text = f"The tables of the database {db.alias!r} are not those of this version: {problem}."
        if label in unknown:
            return Mismatch(
                f"{text} Another version has migrated it ({label}.{unknown[label]}).",
                "Install that version, or use a new database.",
            )
        if label in unapplied:
            found = Mismatch(text, missing_tables.describe_remedy(), is_unmigrated=True)
        elif label not in loader.unmigrated_apps:
            return Mismatch(
                f"{text} Its migrations are applied as another commit had them, or something else has changed it.",
                "Use a new database, that commit, or a backup.",
            )
    return found


def require_present_schema() -> None:
    """Raise ``ImproperlyConfigured`` if the tables differ. If ``migrate`` will change that, log it.

    Call it when a process starts. It starts while the database is unavailable or not migrated, which may pass.
    """
    found: list[Mismatch | None] = []

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
    for mismatch in found:
        refuse(mismatch)


def require_tables() -> None:
    """Raise ``ImproperlyConfigured`` if the tables differ, also if ``migrate`` will change that.

    Raises ``django.db.Error`` while the database is unavailable.
    """
    try:
        mismatch = find_mismatch()
    finally:
        connections.close_all()  # of the main thread, which a worker does not use
    if mismatch:
        raise ImproperlyConfigured(mismatch.text)


def wait_for_tables() -> None:
    """Raise ``OperationalError`` if the tables differ: a job that is claimed now could not record its outcome.

    Call it before each claim. Tables that agree are not compared again until an error says that one is missing.
    """
    global _compared_after
    errors = errors_of_missing_tables.value
    if _compared_after == errors or in_callers_transaction():
        return
    if mismatch := find_mismatch():
        raise OperationalError(mismatch.text)
    _compared_after = errors


#: How many errors of missing tables there were when the tables agreed last; -1: they were not compared yet.
_compared_after = -1


def refuse(mismatch: Mismatch | None) -> None:
    """Raise ``ImproperlyConfigured`` for a difference. If ``migrate`` will change that, log it."""
    if mismatch and not mismatch.is_unmigrated:
        raise ImproperlyConfigured(mismatch.text)
    if mismatch:
        logger.warning("The database is not migrated: %s", mismatch.text)


def _read_columns(db: BaseDatabaseWrapper, tables: list[str]) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    with db.cursor() as cursor:
        cursor.execute(dialect_of(db).columns_of(len(tables)), tables)
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
        return f"{table} requires the unknown column {unknown[0]}"
    return ""
