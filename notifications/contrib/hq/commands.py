"""``manage.py notifications import_hq``: sets the table of django-notifications-hq aside, and imports its rows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import prefetch_related_objects

from notifications import streams
from notifications.contrib.hq.models import HqNotification
from notifications.contrib.hq.rows import make_notification
from notifications.db import connection, database, fair_atomic, insert_rows
from notifications.management import ManagementCommand
from notifications.models import Notification

#: The table and the label of both apps, and what those of the other app are called while it is set aside.
OWN_TABLE, OWN_LABEL = Notification._meta.db_table, "notifications"
TABLE, LABEL = HqNotification._meta.db_table, "hq_notifications"
#: A column that only the table of the other app has.
KNOWN_BY = "actor_object_id"
#: Rows that are read and inserted at once.
CHUNK_ROWS = 200
GENERIC = ("actor", "target", "action_object")


class ImportHqCommand(ManagementCommand):
    help = (
        "Import the notifications of django-notifications-hq. First --set-aside, then migrate, then without options. "
        "Its table is not changed."
    )
    examples = ("--set-aside", "", "--put-back")

    def add_arguments(self, parser: ArgumentParser) -> None:
        steps = parser.add_mutually_exclusive_group()
        steps.add_argument(
            "--set-aside",
            action="store_true",
            help=f"rename its table to {TABLE}, so that migrate can make this app's",
        )
        steps.add_argument(
            "--put-back", action="store_true", help="undo that, after `migrate notifications zero`"
        )

    def handle(self, *args: Any, set_aside: bool, put_back: bool, **options: Any) -> None:
        if set_aside:
            rename(OWN_TABLE, TABLE, OWN_LABEL, LABEL)
            self.stdout.write(f"The table of django-notifications-hq is {TABLE} now. Run manage.py migrate.")
        elif put_back:
            rename(TABLE, OWN_TABLE, LABEL, OWN_LABEL)
            self.stdout.write("The table of django-notifications-hq has its name again.")
        elif not is_of_other_app(TABLE):
            raise CommandError(
                f"There is no table {TABLE}. Run import_hq --set-aside, then manage.py migrate."
            )
        else:
            self.import_rows()

    def import_rows(self) -> None:
        """Import what is not imported yet, and print how many."""
        rows = HqNotification.objects.using(database()).order_by("pk")
        last, seen, imported = 0, 0, 0
        with self.progress("notifications", rows.count()) as progress:
            while chunk := list(rows.filter(pk__gt=last)[:CHUNK_ROWS]):
                imported += import_chunk(chunk)
                seen += len(chunk)
                last = chunk[-1].pk
                progress.add(len(chunk))
        self.stdout.write(
            f"{imported:,} of {seen:,} notifications imported; the others were already, or their users are gone."
        )


def import_chunk(rows: Sequence[HqNotification]) -> int:
    """Insert what these rows become, but what was imported before. Return how many were inserted.

    Extensions are not called, so no e-mail is sent about old notifications.
    """
    try:
        prefetch_related_objects(rows, *GENERIC)
    except Exception:  # of a model that is gone, or a key that it cannot have: each is looked for by itself
        for row in rows:
            row._prefetched_objects_cache = {}
    users = get_user_model()._base_manager.filter(pk__in={row.recipient_id for row in rows})
    known = set(users.values_list("pk", flat=True))
    made = [make_notification(row) for row in rows if row.recipient_id in known]
    inserted = 0

    def insert() -> None:
        nonlocal inserted
        ids = Notification.objects.using(database()).filter(pk__in=[row.pk for row in made])
        existing = set(ids.values_list("pk", flat=True))
        new = [row for row in made if row.pk not in existing]
        insert_rows(new)
        inserted = len(new)

    fair_atomic(insert, more_follows=True)
    streams.number({row.user_id for row in made}, more_follows=True)
    return inserted


def rename(old: str, new: str, old_label: str, new_label: str) -> None:
    """Rename the table of the other app, and the label of its migrations. Raises CommandError."""
    if not is_of_other_app(old):
        raise CommandError(f"There is no table {old} of django-notifications-hq.")
    db = connection()
    if new in db.introspection.table_names():
        raise CommandError(
            f"There is a table {new} already. Back it up, and delete it with `migrate notifications zero`."
        )

    # Not by a transaction of the app, which on SQLite may begin with a write to a table that is not there yet.
    with transaction.atomic(using=db.alias):
        with db.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")
        MigrationRecorder(db).migration_qs.filter(app=old_label).update(app=new_label)


def is_of_other_app(table: str) -> bool:
    """Return whether there is a table of this name that has the columns of the other app."""
    db = connection()
    with db.cursor() as cursor:
        if table not in db.introspection.table_names(cursor):
            return False
        return any(
            column.name == KNOWN_BY for column in db.introspection.get_table_description(cursor, table)
        )
