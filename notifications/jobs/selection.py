"""Which jobs a list shows, and a verb changes: a filter that a job can carry as JSON, with verbs for what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Case, OuterRef, Q, Subquery, TextField, Value, When
from django.db.models.functions import Coalesce, Concat
from django.db.models.lookups import Exact

from notifications import times
from notifications.db.keyset import MAX_IDS_READ, NEWEST_FIRST, count_rows
from notifications.db.transactions import connection, database, dialect
from notifications.extension import hooks
from notifications.ids import parse_id
from notifications.jobs import changing
from notifications.jobs.changing import ChangedJobs
from notifications.jobs.declaring.own_tasks import SENDER_QUEUE
from notifications.jobs.declaring.tasks import aliases_with_engines
from notifications.jobs.listing import queued_in_index_order, search_condition
from notifications.jobs.tags import ids_with_tag
from notifications.models import Attempt, Job
from notifications.states import ACTIVE, LISTED_BY_INDEX

ENGINE_PREFIX = "engine:"
#: The value of ``deliveries`` with which jobs are left out.
HIDDEN = "hidden"
#: Jobs are counted before they are changed, of so many that are read.
MAX_JOBS_COUNTED = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Conditions that a job meets; one that is ``""`` or None is left out.

    ``state``, ``task_path``, ``queue_name``
        Values of these columns.
    ``user``
        The key of the owner, as text.
    ``runner``
        What runs the job: ``"builtin"``, or ``"engine:"`` with the alias of a backend.
    ``error``
        An error group: the path of a task and, after a space, the path of the exception with which the last attempts
        of its failed jobs ended, or else the outcome of those attempts, such as ``lost``.
    ``failure``
        The path of an exception and, after a space, the location in the code: the job has failed, and its last attempt
        ended so. Both are ``""`` where the task raised nothing.
    ``worker``
        Ids of workers, separated by commas: one of them has made the last attempt.
    ``batch``
        The id of a batch, of which the job is a part.
    ``tag``
        A tag that the job has.
    ``search``
        A part of the title or task, or an id.
    ``deliveries``
        ``"hidden"`` leaves out the jobs with which this app sends e-mails, push messages and webhooks, and those of
        other tasks that an extension declares as its own (``OwnTask``), unless another condition asks for them: one of
        these tasks, the queue of senders, or an id.
    ``created_from``, ``created_until``
        The job was created at or after the first and before the second, aware times.
    ``finished_from``, ``finished_until``
        The job was finished at or after the first, and by the second.
    """

    state: str = ""
    task_path: str = ""
    queue_name: str = ""
    user: str = ""
    runner: str = ""
    error: str = ""
    failure: str = ""
    worker: str = ""
    batch: str = ""
    tag: str = ""
    search: str = ""
    deliveries: str = ""
    created_from: datetime | None = None
    created_until: datetime | None = None
    finished_from: datetime | None = None
    finished_until: datetime | None = None

    def __bool__(self) -> bool:
        return self != JobFilter()

    def to_json(self) -> dict[str, str]:
        values = asdict(self)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
            if value not in ("", None)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, str]) -> JobFilter:
        """Return the filter that ``to_json`` made. Raises ValueError for anything else."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"{unknown[0]!r} is no condition of jobs.")
        conditions: dict[str, Any] = dict(values)
        for name, value in values.items():
            if name.endswith(("_from", "_until")):
                conditions[name] = times.as_utc(datetime.fromisoformat(value))
        return cls(**conditions)

    def apply(self, rows: Any) -> Any:
        conditions = Q()
        for name in ("state", "task_path", "queue_name"):
            if value := getattr(self, name):
                conditions &= Q((name, value))
        if self.user:
            conditions &= Q(user_id=_user_key(self.user))
        if self.batch:
            conditions &= Q(batch=UUID(self.batch))
        if self.tag:
            conditions &= Q(pk__in=ids_with_tag(self.tag))
        if self.worker:
            conditions &= Q(worker__in=_ids(self.worker))
        if self.finished_from:
            conditions &= Q(finished_at__gte=self.finished_from)
        if self.finished_until:
            conditions &= Q(finished_at__lte=self.finished_until)
        if self.hides_deliveries:
            conditions &= ~Q(task_path__in=sorted(hooks.own_tasks))
        conditions &= self._created() & _runs_on(self.runner) & search_condition(self.search)
        if self.error:
            conditions &= _failed_with(self.error)
        if self.failure:
            conditions &= _failed_at(self.failure)
        return rows.filter(conditions)

    def narrow(self, rows: Any, *, is_exact: bool = True) -> tuple[Any, Any]:
        """Return jobs that ``apply`` has returned, so that ``read_page`` finds them, and the slices to read, or None.

        ``is_exact``
            Whether the jobs meet no conditions but those of this filter.
        """
        jobs = Job.objects.using(database())
        if (ids := self.few_ids()) is not None:
            return rows.filter(pk__in=ids), None
        state = Job.State.FAILED if self._finds_failed() else self.state
        remaining = replace(self, created_from=None, created_until=None)
        if not self.hides_deliveries:
            remaining = replace(remaining, deliveries="")
        if state in LISTED_BY_INDEX:
            jobs, remaining = jobs.filter(state=state), replace(remaining, state="")
        return rows, None if is_exact and not remaining else jobs.filter(self._created())

    def few_ids(self) -> list[UUID] | None:
        """Return the ids of all jobs that meet a condition which few jobs meet, None if no condition is like that."""
        if id := parse_id(self.search):
            return [id]
        jobs = Job.objects.using(database())
        selections: list[list[Any]] = []
        if self.user:
            selections.append([NEWEST_FIRST.sort(jobs.filter(user_id=_user_key(self.user)))])
        if self.batch:
            selections.append([jobs.filter(batch=UUID(self.batch)).order_by("state")])
        if self.tag:
            selections.append([jobs.filter(pk__in=ids_with_tag(self.tag))])
        if self.state in ACTIVE:
            selections.append(self.selections())
        found = next((ids for querysets in selections if (ids := _read_ids(querysets)) is not None), None)
        if found is None and self.finished_from and self._finds_failed():
            return _read_failed_ids(self.finished_from)
        return found

    def selections(self) -> list[Any]:
        """Return querysets of all jobs in this state, which indexes yield: one, or several of different jobs.

        Where the index of the state is in the order of creation, of the jobs within the times of creation only.
        """
        jobs = Job.objects.using(database()).filter(state=self.state)
        if self.state == Job.State.RUNNING:
            of_workers = jobs.filter(worker__in=_ids(self.worker)) if self.worker else jobs
            return [of_workers.order_by("worker", "id")]
        if self.state == Job.State.QUEUED:
            return queued_in_index_order(jobs)
        return [NEWEST_FIRST.sort(jobs.filter(self._created()))] if self.state in LISTED_BY_INDEX else [jobs]

    def until(self, change: str, moment: datetime) -> JobFilter:
        """Return the filter of the jobs that a change applies to at a moment: later ones are not meant."""
        finished_until = self.finished_until
        if change == "retry":
            finished_until = min(finished_until or moment, moment)
        created_until = min(self.created_until or moment, moment)
        return replace(self, created_until=created_until, finished_until=finished_until)

    def count(self, change: str) -> tuple[int, bool]:
        """Return how many jobs a change applies to, and whether there may be more.

        Of the jobs in the states that it applies to, ``MAX_JOBS_COUNTED`` are read, whether they match or not.
        """
        total, left, is_partial = 0, MAX_JOBS_COUNTED, False
        for part in changing.parts_of(change, self):
            matching = changing.find_changeable(change, part)
            if (ids := part.few_ids()) is not None:
                total += count_rows(matching.filter(pk__in=ids), len(ids))
                continue
            for rows in part.selections():
                read = count_rows(rows, left + 1)
                is_partial = is_partial or read > left
                if left and read:
                    total += count_rows(matching, left, among=rows[:left])
                left = max(left - read, 0)
        return total, is_partial

    def change(
        self,
        change: str,
        *,
        by: Any = None,
        run_at: datetime | None = None,
        check_permission: Callable[[], None] = lambda: None,
    ) -> Iterator[ChangedJobs]:
        """Change the jobs, newest first, 1,000 at a time, each in a transaction of its own, and yield each chunk.

        A job whose owner has too many active jobs is not retried. Done again from the start it changes no job
        otherwise, because a changed job has left the states that it applies to, or gets the same time.

        ``change``
            ``"retry"``, ``"cancel"``, ``"run_now"`` or ``"reschedule"``.
        ``by``
            The key of the user who changes them.
        ``run_at``
            When rescheduled jobs run.
        ``check_permission``
            Called before each chunk. What it raises ends the change.
        """
        for part in changing.parts_of(change, self):
            for ids in changing.read_chunks(change, part):
                check_permission()
                yield changing.change_jobs(change, ids, by=by, run_at=run_at, passes_over_full=True)

    @staticmethod
    def project_sql() -> str:
        """Return the SQL condition of the jobs that ``deliveries="hidden"`` leaves. It has no parameters."""
        paths = [path for path in sorted(hooks.own_tasks) if path.replace(".", "").isidentifier()]
        names = ", ".join(f"'{path}'" for path in paths)
        return f"task_path NOT IN ({names})" if names else "1 = 1"

    @property
    def hides_deliveries(self) -> bool:
        """Whether jobs are left out that ``deliveries`` is about."""
        is_asked_for = self.task_path in hooks.own_tasks or self.queue_name == SENDER_QUEUE
        return bool(self.deliveries and hooks.own_tasks and not is_asked_for and not parse_id(self.search))

    def _finds_failed(self) -> bool:
        return bool(self.state == Job.State.FAILED or self.error or self.failure)

    def _created(self) -> Q:
        conditions = Q()
        if self.created_from:
            conditions &= Q(created_at__gte=self.created_from)
        if self.created_until:
            conditions &= Q(created_at__lt=self.created_until)
        return conditions


def _ids(text: str) -> list[UUID]:
    """Return ids that are separated by commas. Raises ValueError."""
    return [UUID(id) for id in text.split(",")]


def _read_ids(querysets: list[Any]) -> list[UUID] | None:
    """Return the ids of all these jobs, None if they are more than ``MAX_IDS_READ``."""
    ids: list[UUID] = []
    for rows in querysets:
        ids += rows.values_list("pk", flat=True)[: MAX_IDS_READ + 1 - len(ids)]
        if len(ids) > MAX_IDS_READ:
            return None
    return ids


def _read_failed_ids(since: datetime) -> list[UUID] | None:
    """Return the ids of all jobs that failed since a time, None if they are more than ``MAX_IDS_READ``."""
    by_index = dialect().by_index("notifications_job_failed")
    sql = (
        f"SELECT id FROM notifications_job{by_index} WHERE state = 'failed' AND finished_at >= %s "
        f"ORDER BY finished_at DESC LIMIT {MAX_IDS_READ + 1}"
    )
    rows = Job.objects.using(database()).raw(sql, [times.to_db(since, connection())])
    ids = [row.pk for row in rows]
    return None if len(ids) > MAX_IDS_READ else ids


def _runs_on(runner: str) -> Q:
    if runner == "builtin":
        return ~Q(backend__in=aliases_with_engines())
    if runner.startswith(ENGINE_PREFIX):
        return Q(backend=runner.removeprefix(ENGINE_PREFIX))
    if runner:
        raise ValueError(f"{runner!r} runs no jobs.")
    return Q()


def _failed_with(error: str) -> Q:
    task_path, _, kind = error.rpartition(" ")
    named = Case(When(exception_class_path="", then="outcome"), default="exception_class_path")
    return Q(state=Job.State.FAILED, task_path=task_path) & Q(Exact(_last_attempt(named), kind))


def _failed_at(failure: str) -> Q:
    ended = Concat("exception_class_path", Value(" "), "location", output_field=TextField())
    # A job may have failed before its first attempt.
    nothing = Value(" ", output_field=TextField())
    return Q(state=Job.State.FAILED) & Q(Exact(Coalesce(_last_attempt(ended), nothing), failure))


def _last_attempt(expression: Any) -> Subquery:
    """Return an expression over the last attempt of a job, looked up for each job that meets the other conditions.

    PostgreSQL turns EXISTS into a join, for which it reads all attempts.
    """
    last = Attempt.objects.using(database()).filter(job=OuterRef("pk"), number=OuterRef("attempt"))
    return Subquery(last.values_list(expression)[:1], output_field=TextField())


def _user_key(text: str) -> Any:
    """Return the key of a user. Raises ValueError."""
    try:
        return Job._meta.get_field("user").target_field.to_python(text)
    except ValidationError as exc:
        raise ValueError(f"{text!r} is no key of a user.") from exc
