"""The filters beside the list of jobs besides those of the core, and their order."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from notifications.admin import (
    JobAdmin,
    LateModule,
    ListFilter,
    ModelAdminBase,
    NotificationAdmin,
    add_filters,
    extend,
)
from notifications.contrib.operations.admin.filters import (
    MAX_ROWS_READ,
    CategoryFilter,
    CreatedFilter,
    FinishedFilter,
    NotificationCreatedFilter,
)
from notifications.db import database
from notifications.jobs import can_view
from notifications.jobs.arguments import find_jobs
from notifications.models import Attempt, Job

if TYPE_CHECKING:
    from notifications.contrib.operations.admin import bulk_changes
else:
    bulk_changes = LateModule("notifications.contrib.operations.admin.bulk_changes")

#: Choices of a filter that are shown at most.
MAX_CHOICES = 15


class ErrorGroupFilter(ListFilter):
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


class FailureFilter(ListFilter):
    """Filters failed jobs by exception and location, as the overview groups them. It is shown when it is chosen."""

    title = _("failure")
    parameter_name = "failure"


class ArgumentsFilter(ListFilter):
    """Filters jobs by words of their arguments, for staff who may view them.

    It is no condition of ``JobFilter``: a query finds words of secrets too, and the number of jobs that a change of all
    would apply to, or whether it applies to one, would reveal them.
    """

    title = _("text of the arguments")
    parameter_name = "arguments"
    is_condition = False
    template = "admin/notifications/text_filter.html"
    max_length = 200

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if (length := len(self.value() or "")) > self.max_length:
            text = _("The text to find in arguments has %(count)d characters. At most %(limit)d are allowed.")
            messages.error(request, text % {"count": length, "limit": self.max_length})
            raise IncorrectLookupParameters(text)
        return queryset

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None and (words := self._words()):
            # A few jobs, which are counted too.
            rows = rows.filter(pk__in=find_jobs(rows.values_list("pk", flat=True), words))
        return rows, slices_of

    def row_check(self) -> Any:
        return partial(find_jobs, words=words) if (words := self._words()) else None

    def _words(self) -> list[str]:
        return (self.value() or "").split()


def _last_name(path: str) -> str:
    return path.rpartition(".")[2]


#: The filters, and the part of jobs by which those find them that the permission to view jobs does not show.
FILTERS = {
    CreatedFilter: "",
    FinishedFilter: "",
    ErrorGroupFilter: "attempts",
    FailureFilter: "attempts",
    ArgumentsFilter: "arguments",
}


@extend(JobAdmin)
class WithFilters(ModelAdminBase):
    """Adds filters that the user may view to the list of jobs, and what changes all jobs that they find."""

    def get_list_filter(self, request: HttpRequest) -> Any:
        permitted = [spec for spec, part in FILTERS.items() if not part or can_view(request.user, part)]
        return add_filters(super().get_list_filter(request), permitted, after="state__exact")

    def change_all(self, request: HttpRequest, action: str) -> HttpResponse | None:
        if action not in bulk_changes.CHANGES:
            return super().change_all(request, action)
        return bulk_changes.respond(self, request, bulk_changes.CHANGES[action])


@extend(NotificationAdmin)
class WithNotificationFilters(ModelAdminBase):
    """Adds filters to the list of notifications."""

    def get_list_filter(self, request: HttpRequest) -> Any:
        return add_filters(super().get_list_filter(request), [NotificationCreatedFilter, CategoryFilter])
