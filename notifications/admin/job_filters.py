"""The filters beside the list of jobs. The choices of each come from the newest rows, never from a whole table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.admin.live_jobs import count_states, has_state_counts
from notifications.admin.runners import RunnerFilter
from notifications.db.transactions import database
from notifications.models import Attempt, Job, Worker
from notifications.operations.matching import JobFilter, parse_id

#: The newest rows that choices come from, and the choices that are shown at most.
MAX_ROWS_READ, MAX_CHOICES = 300, 15
#: The id of no job and no worker.
NOBODY = "00000000-0000-0000-0000-000000000000"
#: Attributes of a request that hold what two filters need.
_NEWEST = "_notifications_newest_jobs"

PERIODS = {
    "hour": (_("Past hour"), timedelta(hours=1)),
    "day": (_("Past 24 hours"), timedelta(days=1)),
    "week": (_("Past 7 days"), timedelta(days=7)),
}


class FormFilter(admin.SimpleListFilter):
    """A filter with a form beside its choices, or in place of them."""

    def choices(self, changelist: Any) -> Any:
        #: What the filter's form sends besides its own fields, so that the other filters stay.
        self.other_parameters = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.expected_parameters()
            for value in values
        ]
        return super().choices(changelist)

    def with_value(self, choices: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return the choices, with the chosen value if it is none of them."""
        value = self.value()
        return choices if not value or value in dict(choices) else [*choices, (value, value)]


class JobListFilter(FormFilter):
    """A filter whose value is a condition of ``JobFilter``."""

    def condition(self) -> dict[str, Any]:
        """Return arguments of ``JobFilter``. Raises ValueError for a value that none can have."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            return JobFilter(**self.condition()).apply(queryset)
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc


class StateFilter(JobListFilter):
    title = _("state")
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Job.State.choices

    def choices(self, changelist: Any) -> Any:
        labels = count_states() if has_state_counts(changelist) else {}
        for state, choice in zip([None, *Job.State.values], super().choices(changelist), strict=True):
            yield choice | ({"display": labels[state]} if state in labels else {})

    def condition(self) -> dict[str, Any]:
        if (value := self.value()) and value not in Job.State.values:
            raise ValueError(f"{value!r} is no state.")
        return {"state": value or ""}


class TaskFilter(JobListFilter):
    title = _("task")
    parameter_name = "task_path"
    template = "admin/notifications/job/text_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(task for task, _ in _newest_jobs(request)))

    def has_output(self) -> bool:
        return True

    def condition(self) -> dict[str, Any]:
        return {"task_path": self.value() or ""}


class QueueFilter(TaskFilter):
    title = _("queue")
    parameter_name = "queue_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value(_most_frequent(queue for _, queue in _newest_jobs(request)))

    def condition(self) -> dict[str, Any]:
        return {"queue_name": self.value() or ""}


class UserFilter(JobListFilter):
    """Filters jobs by the name of their owner."""

    title = _("user")
    parameter_name = "user"
    template = "admin/notifications/job/text_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def has_output(self) -> bool:
        return True

    def condition(self) -> dict[str, Any]:
        if not (name := self.value()):
            return {}
        users = get_user_model()._base_manager.filter(**{get_user_model().USERNAME_FIELD: name})
        key = users.values_list("pk", flat=True).first()
        # The key of no user, of any type.
        return {"user": str(key)} if key is not None else {"search": NOBODY}


class JobRunnerFilter(JobListFilter, RunnerFilter):
    title = RunnerFilter.title
    parameter_name = RunnerFilter.parameter_name

    def condition(self) -> dict[str, Any]:
        return {"runner": self.value() or ""}


class CreatedFilter(JobListFilter):
    """Filters jobs by when they were created: a period until now, or from one time to another."""

    title = _("created")
    parameter_name = "created"
    template = "admin/notifications/job/time_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        #: Parameters of a range, as the form sends them: times in the time zone of the page.
        self.range = {name: params.pop(name)[-1] for name in self.expected_parameters()[1:] if name in params}
        super().__init__(request, params, *args)

    @property
    def ends(self) -> list[tuple[Any, str, str]]:
        """The fields of the form: label, parameter and value."""
        labels = zip((_("From"), _("Until")), self.expected_parameters()[1:], strict=True)
        return [(label, name, _in_form(self.range.get(name, ""))) for label, name in labels]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(period, title) for period, (title, length) in PERIODS.items()]

    def expected_parameters(self) -> list[str]:
        return [self.parameter_name, f"{self.parameter_name}_from", f"{self.parameter_name}_until"]

    def choices(self, changelist: Any) -> Any:
        without_range = changelist.get_query_string(remove=self.expected_parameters())
        for choice in super().choices(changelist):
            choice["selected"] = choice["selected"] and not any(self.range.values())
            yield choice | ({"query_string": without_range} if choice["display"] == _("All") else {})

    def condition(self) -> dict[str, Any]:
        conditions = {name: _parse_time(text) for name, text in self.range.items() if text}
        if period := self.value():
            if period not in PERIODS:
                raise ValueError(f"{period!r} is no period.")
            conditions[f"{self.parameter_name}_from"] = times.now() - PERIODS[period][1]
        return conditions


class FinishedFilter(CreatedFilter):
    """Filters jobs by when they ended."""

    title = _("finished")
    parameter_name = "finished"


class ErrorGroupFilter(JobListFilter):
    """Filters failed jobs by their task and the exception of their last attempt."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        columns = ("job_id", "exception_class_path", "outcome", "job__state", "job__task_path")
        newest = Attempt.objects.using(database()).order_by("-id").values_list(*columns)[:MAX_ROWS_READ]
        kinds: dict[Any, tuple[str, str]] = {}
        for job, exception, outcome, state, task in newest:
            if state == Job.State.FAILED:
                kinds.setdefault(job, (task, exception or outcome))
        groups = Counter(kinds.values())
        return self.with_value(
            [
                (f"{task} {kind}", f"{_last_name(task)}: {_last_name(kind)}")
                for (task, kind), count in groups.most_common(MAX_CHOICES)
            ]
        )

    def condition(self) -> dict[str, Any]:
        return {"error": self.value() or ""}


class FailureFilter(JobListFilter):
    """Filters failed jobs by exception and location, as the overview groups them. It is shown when it is chosen."""

    title = _("failure")
    parameter_name = "failure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def condition(self) -> dict[str, Any]:
        return {"failure": self.value() or ""}


class BatchFilter(JobListFilter):
    """Filters the jobs of a batch. It is shown when it is chosen, on the page of the batch."""

    title = _("batch")
    parameter_name = "batch"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def condition(self) -> dict[str, Any]:
        if not (value := self.value()):
            return {}
        if (id := parse_id(value)) is None:
            raise ValueError(f"{value!r} is no id of a batch.")
        return {"batch": str(id)}


class WorkerFilter(JobListFilter):
    """Filters jobs by the worker of their last attempt: its id, or the host of workers that are alive."""

    title = _("worker")
    parameter_name = "worker"
    template = "admin/notifications/job/text_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        hosts = Worker.objects.using(database()).order_by("-id").values_list("host", flat=True)
        return self.with_value(_most_frequent(hosts[:MAX_ROWS_READ]))

    def has_output(self) -> bool:
        return True

    def condition(self) -> dict[str, Any]:
        if not (value := self.value()):
            return {}
        if id := parse_id(value):
            return {"worker": str(id)}
        ids = Worker.objects.using(database()).filter(host=value).order_by("-id").values_list("pk", flat=True)
        return {"worker": ",".join(map(str, ids[:MAX_ROWS_READ])) or NOBODY}


class ArgumentsFilter(FormFilter):
    """Filters jobs by words of their arguments, for staff who may view them.

    It is no condition of ``JobFilter``: a query finds words of secrets too, and the number of jobs that a change of all
    would apply to, or whether it applies to one, would tell what they are.
    """

    title = _("text of the arguments")
    parameter_name = "arguments"
    template = "admin/notifications/job/text_filter.html"
    max_length = 200

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.with_value([])

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if (length := len(self.value() or "")) > self.max_length:
            text = _("The text to find in arguments has %(count)d characters. At most %(limit)d are allowed.")
            messages.error(request, text % {"count": length, "limit": self.max_length})
            raise IncorrectLookupParameters(text)
        return queryset


def argument_words(changelist: Any) -> list[str]:
    """Return the words that the arguments of the listed jobs have, none without the filter."""
    specs = [spec for spec in changelist.filter_specs if isinstance(spec, ArgumentsFilter)]
    return [word for spec in specs for word in (spec.value() or "").split()]


def read_filter(changelist: Any) -> JobFilter:
    """Return the conditions of all filters of a list of jobs and of its search. Raises ValueError."""
    conditions = {"search": changelist.query}
    for spec in changelist.filter_specs:
        if isinstance(spec, JobListFilter):
            conditions |= spec.condition()
    return JobFilter(**conditions)


def other_parameters(changelist: Any) -> list[str]:
    """Return the names of parameters of a list that are not those of filters of this module."""
    specs = (spec for spec in changelist.filter_specs if isinstance(spec, JobListFilter))
    known = {name for spec in specs for name in spec.expected_parameters()}
    return sorted(set(changelist.get_filters_params()) - known)


def _newest_jobs(request: HttpRequest) -> list[tuple[str, str]]:
    """Return task and queue of the newest jobs, which are read once for a page."""
    if not hasattr(request, _NEWEST):
        jobs = Job.objects.using(database()).order_by("-created_at", "-id")
        setattr(request, _NEWEST, list(jobs.values_list("task_path", "queue_name")[:MAX_ROWS_READ]))
    return getattr(request, _NEWEST)  # type: ignore[no-any-return]


def _most_frequent(values: Iterable[str]) -> list[tuple[str, Any]]:
    return [(value, value) for value, count in sorted(Counter(values).most_common(MAX_CHOICES))]


def _last_name(path: str) -> str:
    return path.rpartition(".")[2]


def _parse_time(text: str) -> datetime:
    """Return a time of a form, in the time zone of the page. Raises ValueError."""
    if (moment := parse_datetime(text)) is None:
        raise ValueError(f"{text!r} is no time.")
    try:
        return times.as_utc(moment.replace(tzinfo=moment.tzinfo or timezone.get_current_timezone()))
    except OverflowError:  # at the ends of the calendar
        raise ValueError(f"{text!r} is no time.") from None


def _in_form(text: str) -> str:
    """Return a time as its field has it, in the time zone of the page."""
    try:
        return f"{timezone.localtime(_parse_time(text)):%Y-%m-%dT%H:%M}" if text else ""
    except OverflowError:  # in the first or last hours that there are
        return ""
