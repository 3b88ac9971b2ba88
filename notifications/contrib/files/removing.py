"""A duty that removes from the storage what is no file any more.

An object is kept

- while the execution that writes it runs
- if a step has made it, as long as the job exists and has not succeeded: a step that has returned is not called again
- until the files of a job that has succeeded are stored, which may be later than its outcome
- while a file has it: until that expires, or is deleted with its job or its user.

What is found not needed is not needed later either: nothing raises the fence of a job to one that it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, Subquery

from notifications.contrib.files.declarations import find_storage
from notifications.contrib.files.models import ResultFile, StoredObject
from notifications.db import database, database_now, database_now_sql, lock_query, retrying_atomic
from notifications.extension import Duty, Subjects, Upkeep
from notifications.models import Job
from notifications.worker import DaemonExecutor

#: Seconds between two rounds.
INTERVAL_SECONDS = 30.0
#: After these an object is looked at again: one that was not removed or may be written, and that of a file.
CHECK_SECONDS, FILE_CHECK_SECONDS = 3_600.0, 86_400.0
#: How long what a process writes that was frozen, or is cut off from the database, may reach the storage afterwards.
LATE_WRITE_SECONDS = 86_400.0
#: Objects that are searched for at once.
PAGE = 100
#: Seconds after which the storage has not removed an object.
REMOVAL_SECONDS = 10.0
#: The fence of an object that was removed while its write was not known to be over. No execution has it.
REMOVED = -1


def list_duties(process: Upkeep) -> list[Duty]:
    """Return the duty. Storages are code of the project."""
    subjects = Subjects(find_due, calls_project=True)
    return [
        Duty("remove files", INTERVAL_SECONDS, Remover().remove, condition=_due_condition, subjects=subjects)
    ]


def _due_condition() -> tuple[str, Sequence[Any]]:
    now, param = database_now_sql()
    table = StoredObject._meta.db_table
    return f"EXISTS (SELECT 1 FROM {table} WHERE check_at <= {now})", (param,)


def find_due() -> Iterator[UUID]:
    """Yield the ids of objects whose time has come, those first that have waited longest."""
    due = (
        StoredObject.objects.using(database()).filter(check_at__lte=database_now()).order_by("check_at", "pk")
    )
    rows = due
    while page := list(rows.values_list("check_at", "pk")[:PAGE]):
        yield from (id for _, id in page)
        last, id = page[-1]
        rows = due.filter(Q(check_at__gt=last) | Q(check_at=last, pk__gt=id))


class Remover:
    """Removes objects from the storage, for one process.

    ``seconds``
        Those after which a call of the storage is given up.
    """

    def __init__(self, seconds: float = REMOVAL_SECONDS) -> None:
        self._seconds = seconds
        self._threads = DaemonExecutor(1, "notifications-files")

    def remove(self, ids: Sequence[UUID]) -> None:
        """Remove those of these objects that are due and not needed.

        The object goes before its row: a process that is killed between the two removes it again. Raises what the
        storage raises, and ``TimeoutError`` for a call that does not return.
        """
        for id in ids:
            if row := retrying_atomic(partial(_postpone, id)):
                self._delete(row.path)
                retrying_atomic(partial(_forget, row))

    def _delete(self, path: str) -> None:
        call = self._threads.submit(find_storage().delete, path)
        try:
            call.result(timeout=self._seconds)
        except FileNotFoundError:
            pass
        finally:
            self._threads.give_up(call)


def _postpone(id: UUID) -> StoredObject | None:
    """Have an object be looked at again later, and return it if it is not needed.

    Also then: one at which the storage raises, or never returns, is not the first one of other processes.
    """
    now = database_now()
    job = Job.objects.using(database()).filter(pk=OuterRef("job"))
    files = ResultFile.objects.using(database())
    is_of_execution = Exists(job.filter(fence=OuterRef("fence")))
    is_written = Exists(job.filter(state=Job.State.RUNNING)) & is_of_execution
    is_of_step = ~Q(step="") & Exists(job.exclude(state=Job.State.SUCCEEDED))
    becomes_file = (
        Q(size__isnull=False)
        & (~Q(step="") | is_of_execution)
        & Exists(job.filter(state=Job.State.SUCCEEDED))
        & ~Exists(files.filter(job=OuterRef("job")))
    )
    rows = StoredObject.objects.using(database()).filter(pk=id, check_at__lte=now)
    # One statement, so that a job which ends meanwhile has its files in it or runs.
    row = lock_query(
        rows.annotate(
            expires_at=Subquery(files.filter(pk=OuterRef("pk")).values("expires_at")),
            is_kept=is_written | is_of_step | becomes_file,
        )
    ).first()
    if row is None:  # another process has it
        return None
    is_file = bool(row.expires_at and row.expires_at > now)
    check_at = now + timedelta(seconds=CHECK_SECONDS)
    if is_file:
        check_at = min(row.expires_at, now + timedelta(seconds=FILE_CHECK_SECONDS))
    rows.update(check_at=check_at)
    return None if is_file or row.is_kept else row


def _forget(row: StoredObject) -> None:
    """Delete the row of an object that was removed: for one whose write may go on, a day later."""
    rows = StoredObject.objects.using(database()).filter(pk=row.pk)
    if row.size is None and row.fence != REMOVED:
        check_at = database_now() + timedelta(seconds=LATE_WRITE_SECONDS)
        rows.update(fence=REMOVED, step="", check_at=check_at)
    else:
        rows.delete()
