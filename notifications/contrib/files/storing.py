"""Write files into the storage, and store with the outcome of a job which files it has made.

An object is a row before its first byte is in the storage, so that no object is there which nothing knows of. What was
written becomes a file in the transaction that records that the job has succeeded, by the hook ``on_ends``.
"""

from __future__ import annotations

import io
import json
import mimetypes
import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, Self

from django.core.files import File
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext

from notifications import validators
from notifications.contrib.files.declarations import MAX_KEEP, find_storage, read_settings
from notifications.contrib.files.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_FILE_NAME_LENGTH,
    MAX_PATH_LENGTH,
    ResultFile,
    StoredObject,
)
from notifications.db import database, database_now, new_row, retrying_atomic
from notifications.exceptions import AttemptEnded
from notifications.extension import WorkerPart
from notifications.inbox import job_path
from notifications.models import Job, uuid7
from notifications.worker import lock_claims, running_step

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction
    from notifications.jobs import Outcome
    from notifications.worker import WorkerState

#: Files of one execution, with those of steps of earlier ones.
MAX_FILES_PER_JOB = 100
#: Characters of the ending of a path in the storage.
MAX_ENDING_LENGTH = 10
#: Seconds after which an object is looked at that is not the one of a file yet.
FIRST_CHECK_SECONDS = 120.0
#: Content types of files that are compressed, by the encoding that ``mimetypes`` guesses. Else that of the content
#: is sent, and a browser may unpack the file, or give it another ending.
COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
#: A media type with its parameters (RFC 9110, section 8.3.1), as the value of a header.
_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *;[\x20-\x7e]*)?", re.ASCII)
#: Joiners of letters, which names in Persian, Hindi and others have. Other characters of their kind can pretend another
#: ending.
_JOINERS = "\u200c\u200d"


LOST = "The file was not stored: the attempt has ended, and another one may run."


class _Spool(io.BufferedRandom):
    """A temporary file that refuses to become larger than ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(tempfile.TemporaryFile(buffering=0))  # type: ignore[arg-type]  # noqa: SIM115 (close())
        self._max_bytes = max_bytes

    def write(self, data: Any) -> int:
        count = super().write(data)
        self.check_size(self.tell())
        return count

    def check_size(self, size: int) -> None:
        """Raise ``ValueError`` for a size that is too large."""
        if size > self._max_bytes:
            raise ValueError(
                f"A file may have {self._max_bytes:,} bytes. NOTIFICATIONS['FILES']['max_bytes'] sets it."
            )


#: The attribute of the claimed row of a job that has made files in this execution. It is no field of the model.
_HAS_OBJECTS = "_notifications_files_has_objects"


class Draft:
    """A file that a job is writing. ``file`` takes bytes, or text."""

    def __init__(self, row: StoredObject, job: Job, encoding: str | None, max_bytes: int) -> None:
        self._row, self._job = row, job
        self._spool = _Spool(max_bytes)
        self.file: IO[Any] = TextIOWrapper(self._spool, encoding, newline="") if encoding else self._spool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def store(self) -> None:
        """Write the file into the storage. Raises ``AttemptEnded`` if another worker has the job by now."""
        storage, row = find_storage(), self._row
        self.file.flush()
        size = self._spool.seek(0, os.SEEK_END)
        self._spool.check_size(size)  # truncate() makes it larger, too
        self._spool.seek(0)
        # As ``save()`` does, but before the row is inserted: the storage may name its objects in its own way.
        row.path = storage.get_available_name(row.path, max_length=MAX_PATH_LENGTH)
        retrying_atomic(self._insert)
        self._job.__dict__[_HAS_OBJECTS] = True
        path = storage.save(row.path, File(self._spool), max_length=MAX_PATH_LENGTH)
        rows = StoredObject.objects.using(database()).filter(pk=row.pk, fence=row.fence)
        if not retrying_atomic(lambda: rows.update(size=size, path=path)):
            # This process was frozen, or cut off from the database, for so long that the object was removed.
            storage.delete(path)
            raise AttemptEnded(LOST)

    def _insert(self) -> None:
        row = self._row
        if lock_claims([self._job]).is_void(self._job):
            raise AttemptEnded(LOST)
        objects = StoredObject.objects.using(database()).filter(Q(fence=row.fence) | ~Q(step=""), job=row.job)
        if len(objects.values_list("pk")[:MAX_FILES_PER_JOB]) == MAX_FILES_PER_JOB:
            raise ValueError(f"A job may make {MAX_FILES_PER_JOB} files. Put them into one archive.")
        row.check_at = database_now() + timedelta(seconds=FIRST_CHECK_SECONDS)
        row.save(using=database(), force_insert=True)


class FileWriter(WorkerPart):
    """Makes the drafts of running jobs."""

    def make_draft(
        self,
        job: Job,
        name: Any,
        *,
        encoding: str | None = None,
        content_type: str = "",
        keep: timedelta | None = None,
        permission: str = "",
    ) -> Draft:
        """See ``api.result_file()``."""
        options = read_settings()
        find_storage()
        keep = timedelta(days=options.keep_days) if keep is None else keep
        if not isinstance(keep, timedelta) or not timedelta() < keep <= MAX_KEEP:
            raise ValueError(
                f"keep is {keep!r}. It must be a timedelta of more than 0 and at most {MAX_KEEP.days} days."
            )
        name, id, step = check_name(name), uuid7(), running_step()
        row = StoredObject(
            id=id,
            job=job.id,
            fence=job.fence,
            step=step.name if step else "",
            # By day: a file system keeps the empty folders.
            path=f"{datetime.now(UTC):%Y/%m/%d}/{id}{_ending_of(name)}",
            name=name,
            content_type=check_content_type(content_type) if content_type else _guess_content_type(name),
            permission=validators.text("permission", permission, validators.MAX_NAME_LENGTH),
            kept_seconds=round(keep.total_seconds()),
        )
        return Draft(row, job, encoding, options.max_bytes)


def make_worker_part(state: WorkerState | None) -> FileWriter:
    """Return what makes files, in a worker and where jobs run inline."""
    return FileWriter()


def check_name(name: Any) -> str:
    """Return the name of a file. Raises TypeError or ValueError."""
    name = validators.text("name", name, MAX_FILE_NAME_LENGTH, required=True).strip()
    is_control = any(
        unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") for each in name if each not in _JOINERS
    )
    if name in (".", "..") or "/" in name or "\\" in name or is_control:
        raise ValueError(
            f"name is {name!r}. It must be the name of a file, without / and \\ and control characters."
        )
    return name


def check_content_type(content_type: Any) -> str:
    """Return a content type. Raises TypeError or ValueError."""
    content_type = validators.text("content_type", content_type, MAX_CONTENT_TYPE_LENGTH)
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise ValueError(f'content_type is {content_type!r}. It must be as "text/csv".')
    return content_type


def _guess_content_type(name: str) -> str:
    content_type, encoding = mimetypes.guess_type(name)
    if encoding:
        content_type = COMPRESSED.get(encoding)
    return content_type or "application/octet-stream"


def make_files(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> list[ResultFile]:
    """Return the files of jobs that succeed, from what they have written. See ``Extension.on_ends()``.

    Those are the objects of this execution, and of steps of earlier ones; the newest of each name. Of a step that was
    called in several executions, because it had not returned, the last one counts.
    Objects are read only of jobs that may have made some.
    """
    jobs = {
        outcome.job.id: outcome
        for outcome in outcomes
        if outcome.job.state == Job.State.SUCCEEDED
        and (tx.is_late or outcome.job.fence > 1 or _HAS_OBJECTS in outcome.job.__dict__)
    }
    if not jobs:
        return []
    objects = StoredObject.objects.using(database()).filter(job__in=list(jobs), size__isnull=False)
    found = [
        row for row in objects.order_by("fence", "id") if row.step or row.fence == jobs[row.job].job.fence
    ]
    last_fences = {(row.job, row.step): row.fence for row in found}
    newest = {(row.job, row.name): row for row in found if row.fence == last_fences[row.job, row.step]}
    now = tx.now or database_now()
    files = [_make_file(row, jobs[row.job].job, now) for row in newest.values()]
    for outcome in jobs.values():
        _add_button(outcome, [file for file in files if file.job == outcome.job.id])
    return files


def forget_steps(change: str, jobs: Sequence[Any], tx: RecordedTransaction) -> tuple[()]:
    """Keep no object of a job that is retried from its start. See ``Extension.on_change()``."""
    if change == "restarted":
        StoredObject.objects.using(database()).filter(job__in=jobs).exclude(step="").update(step="")
    return ()


def _make_file(row: StoredObject, job: Job, now: datetime) -> ResultFile:
    return new_row(
        ResultFile,
        user_id=job.user_id,
        created_at=now,
        expires_at=now + timedelta(seconds=row.kept_seconds),
        **{
            name: getattr(row, name)
            for name in ("id", "job", "path", "name", "size", "content_type", "permission")
        },
    )


def _add_button(outcome: Outcome, files: Sequence[ResultFile]) -> None:
    """Have the notification of the end of a job offer its files, unless the task has given it other buttons."""
    row = outcome.notification
    url = job_path(files[0].id, "file") if len(files) == 1 else job_path(outcome.job.id)
    if row is None or not files or not url:
        return
    data = json.loads(row.data or "{}")
    if "actions" not in data:
        with translation.override(outcome.job.language or None):
            label = gettext("Download") if len(files) == 1 else gettext("Show files")
        data["actions"] = [{"label": label, "url": url}]
        row.data = json.dumps(data, ensure_ascii=False)


def _ending_of(name: str) -> str:
    """Return the ending of a name for the path in the storage: what people see of a storage should say what it is."""
    ending = os.path.splitext(name)[1]
    return ending if ending.isascii() and ending[1:].isalnum() and len(ending) <= MAX_ENDING_LENGTH else ""
