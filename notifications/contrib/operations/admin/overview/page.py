"""The overview page, and the fragment that it reloads.

A page requests the fragment each second, so a process counts the rings of the doorbell while a page is open. An ETag
has that count and the time, in steps of ``MAX_AGE_SECONDS``: with the same ETag nothing is read from the database.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.timezone import template_localtime
from django.utils.translation import gettext as _

from notifications import times
from notifications.admin import LateModule, ReadOnlyMixin, list_url, page_context
from notifications.contrib.operations.models import Alert, Overview
from notifications.contrib.operations.periods import LENGTHS, make_range, read_span
from notifications.db import database_now
from notifications.extension import hooks
from notifications.http import BACKGROUND_MARK, background_view
from notifications.jobs import can_view
from notifications.models import Job
from notifications.realtime import listen
from notifications.worker import start_thread

if TYPE_CHECKING:
    from notifications.contrib.operations.admin.overview import figures, history, operating
    from notifications.contrib.operations.alerts import texts
    from notifications.contrib.operations.statistics import reading
else:
    figures = LateModule("notifications.contrib.operations.admin.overview.figures")
    history = LateModule("notifications.contrib.operations.admin.overview.history")
    operating = LateModule("notifications.contrib.operations.admin.overview.operating")
    texts = LateModule("notifications.contrib.operations.alerts.texts")
    reading = LateModule("notifications.contrib.operations.statistics.reading")

DEFAULT_PERIOD = "hour"
#: The page on which staff write a notification. Its address takes the recipients.
COMPOSER = "admin:notifications_broadcasts_broadcast_add"
#: Seconds after which figures are read again without a ring: some change without one, such as the load of workers.
MAX_AGE_SECONDS = 5
#: Seconds without a request after which the process stops listening.
IDLE_SECONDS = 60.0
#: Queues with their tasks that can be chosen from. Others can be named in the address.
MAX_NAMES = 500
#: Tells this process, in ETags, from those of other machines with the same number.
_PROCESS = secrets.token_hex(8)
#: The parameters of the address, with the fields that they are values of.
FIELDS = {"queue": "queue_name", "task": "task_path"}


@admin.register(Overview)
class OverviewAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Has one page in place of a list. The permission ``notifications_operations.view_overview`` allows to view it."""

    def get_urls(self) -> list[Any]:
        """Return the URLs of the page, its fragment and the retry. There are no rows to list or change."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="notifications_operations_overview_changelist"),
            path(
                "figures/",
                view(background_view(self.figures_view)),
                name="notifications_operations_overview_figures",
            ),
            path("tasks/", view(self.tasks_view), name="notifications_operations_overview_tasks"),
            path("retry/", view(self.retry_view), name="notifications_operations_overview_retry"),
            path("tell/", view(self.tell_view), name="notifications_operations_overview_tell"),
            *(
                path(
                    f"{kind}/",
                    view(partial(self.change_view, kind=kind)),
                    name=f"notifications_operations_overview_{kind}",
                )
                for kind in operating.PERMISSIONS
            ),
        ]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.change_job")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._require_permission(request)
        period, selection = self._period(request), read_selection(request)
        parameters = {"period": period, **read_deliveries(request)}
        context = {
            **self._page_context(request, period),
            **self._figures_context(request, period, selection),
            **_read_choices(period, selection, read_deliveries(request)),
            "title": _("Overview"),
            "figures_url": f"{self._url('figures')}?{urlencode(parameters | selection)}&{BACKGROUND_MARK}",
            "tasks_url": f"{self._url('tasks')}?{urlencode(parameters)}",
            **(extra_context or {}),
        }
        return TemplateResponse(request, f"{operating.FOLDER}.html", context)

    def tasks_view(self, request: HttpRequest) -> HttpResponse:
        self._require_permission(request)
        period, order = self._period(request), request.GET.get("order", "")
        order = order if order in history.ORDERS else history.DEFAULT_ORDER
        tasks = history.read_tasks(period, order, with_deliveries=bool(read_deliveries(request)))
        context = {
            **self._page_context(request, period),
            "title": _("Tasks"),
            "tasks": tasks,
            "order": order,
            "orders": list(history.ORDERS.items()),
            "overview_url": self._url("changelist"),
            "jobs_url": self._jobs_url(request),
        }
        return TemplateResponse(request, f"{operating.FOLDER}/tasks.html", context)

    def _page_context(self, request: HttpRequest, period: str) -> dict[str, Any]:
        return {
            **page_context(self, request),
            "subtitle": None,
            **_describe_period(period),
            "periods": [(name, known.label) for name, known in history.PERIODS.items()],
            "deliveries": urlencode(read_deliveries(request)),
            "has_deliveries": bool(hooks.own_tasks),
        }

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        """Return the figures without the page around them, or 304 if they cannot have changed."""
        self._require_permission(request)
        period, selection = self._period(request), read_selection(request)
        variant = urlencode(selection | read_deliveries(request))
        etag = ring_counter.etag(period, *([variant] if variant else []))
        if request.headers.get("If-None-Match") == etag:
            response: HttpResponse = HttpResponseNotModified()
        else:
            context = self._figures_context(request, period, selection)
            response = TemplateResponse(request, f"{operating.FOLDER}/figures.html", context)
        response["ETag"] = etag
        return response

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to retry the jobs of a group, and with a POST that confirms it begin the job that does it."""
        self._require_permission(request)
        if not self.has_retry_permission(request):
            raise PermissionDenied
        return operating.respond_to_retry(self, request, overview_url=self._url("changelist"))

    def tell_view(self, request: HttpRequest) -> HttpResponse:
        """Open the composer of broadcasts with the owners of the failed jobs of a group."""
        self._require_permission(request)
        if not (composer_url := self._composer_url(request)):
            raise PermissionDenied
        overview_url = self._url("changelist")
        return operating.respond_to_tell(self, request, overview_url=overview_url, composer_url=composer_url)

    def change_view(self, request: HttpRequest, *, kind: str) -> HttpResponse:
        self._require_permission(request)
        return operating.respond(self, request, kind, overview_url=self._url("changelist"))

    def _figures_context(
        self, request: HttpRequest, period: str, selection: dict[str, str]
    ) -> dict[str, Any]:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        shown = figures.read_figures(
            period,
            **selection,
            with_deliveries=bool(read_deliveries(request)),
            with_messages=can_view(request.user, "tracebacks"),
        )
        for alert in shown.alerts:
            alert.subject_url = texts.subject_url(alert, partial(list_url, self, request))  # type: ignore[attr-defined]
        read_all = hooks.functions_of("operations", "overview_sections")
        sections = [section for read in read_all for section in read(self, request)]
        return {
            "figures": shown,
            "sections": sections,
            "selection": selection,
            **_describe_period(period),
            "can_retry": self.has_retry_permission(request),
            "retry_url": self._url("retry"),
            "tell_url": self._url("tell") if self._composer_url(request) else "",
            "changes": {kind: self._url(kind) for kind in operating.permitted_changes(request)},
            "deliveries": urlencode(read_deliveries(request)),
            "jobs_url": self._jobs_url(request),
            "alerts_url": list_url(self, request, Alert),
            "can_view_attempts": can_view(request.user, "attempts"),
        }

    def _jobs_url(self, request: HttpRequest) -> str:
        """Return the address of the list of jobs, with the same jobs as on the page, "" without permission."""
        if not (url := list_url(self, request, Job)):
            return ""
        return f"{url}?{urlencode(shown)}" if (shown := read_deliveries(request)) else url

    def _composer_url(self, request: HttpRequest) -> str:
        """Return the address at which the user writes to others, "" without the permission or the app for it."""
        if not request.user.has_perm("notifications.add_notification"):
            return ""
        try:
            return reverse(COMPOSER, current_app=self.admin_site.name)
        except NoReverseMatch:  # notifications.contrib.broadcasts is not installed
            return ""

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _period(self, request: HttpRequest) -> str:
        try:
            return read_period(request.GET)
        except (ValueError, OverflowError):
            return DEFAULT_PERIOD

    def _url(self, name: str) -> str:
        return reverse(f"admin:notifications_operations_overview_{name}", current_app=self.admin_site.name)


class RingCounter:
    """Counts rings, from the first call of ``etag()`` until ``IDLE_SECONDS`` after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._requested_at = 0.0
        self._stop: Callable[[], None] | None = None

    def etag(self, *variants: str) -> str:
        """Return an ETag that stays the same until the figures of these variants may differ."""
        with self._lock:
            self._requested_at = time.monotonic()
            if self._stop is None:
                self._stop = listen(self._handle_ring)
                self._count += 1  # what rang in between was not counted
            step = int(time.time() // MAX_AGE_SECONDS)
            return f'W/"{_PROCESS}-{os.getpid()}-{self._count}-{step}-{"-".join(variants)}"'

    def close(self) -> None:
        with self._lock:
            stop, self._stop = self._stop, None
        if stop:
            stop()

    def _handle_ring(self, users: Any, queue: bool) -> None:
        with self._lock:
            self._count += 1
            if time.monotonic() - self._requested_at < IDLE_SECONDS or self._stop is None:
                return
        # In a thread, because it waits for the thread that this is called from.
        start_thread(self.close, "notifications-overview")


ring_counter = RingCounter()


def read_period(parameters: Any) -> str:
    """Return the period that an address names: see ``read_span``. Raises ValueError, and OverflowError.

    ``from`` and ``until``, as the form of the page sends them, are times in the time zone of the page.
    """
    ends = [parse_datetime(parameters.get(name, "")) for name in ("from", "until")]
    period = parameters.get("period", DEFAULT_PERIOD)
    if all(ends):
        zone = timezone.get_current_timezone()
        period = make_range(*(end.replace(tzinfo=end.tzinfo or zone) for end in ends if end))
    read_span(period, times.now())
    return str(period)


def _describe_period(period: str) -> dict[str, Any]:
    """Return what the template needs of a period: that of a range as its two times."""
    known = history.PERIODS.get(period, history.RANGE)
    since, until = (template_localtime(end) if end else None for end in read_span(period, times.now()))
    return {
        "period": period,
        "period_label": known.label if period in LENGTHS else "",
        "range": (since, until) if until else None,
        "x_format": known.time_format,
    }


def read_selection(request: HttpRequest) -> dict[str, str]:
    """Return the queue and task that the address names, without one that none can have, of which a message tells."""
    selection = {}
    for name, field in FIELDS.items():
        if not (value := request.GET.get(name, "").strip()):
            continue
        if "\0" in value or len(value) > (Job._meta.get_field(field).max_length or 0):
            text = _("The charts are of all jobs, because no queue or task can have the name in the address.")
            messages.warning(request, text)
            continue
        selection[name] = value
    return selection


def read_deliveries(request: HttpRequest) -> dict[str, str]:
    """Return the parameter of the address with which the jobs are there that send messages, nothing without it."""
    return {"deliveries": "shown"} if operating.shows_deliveries(request) else {}


def _read_choices(period: str, selection: dict[str, str], deliveries: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of queues and tasks that can be chosen, for the template: those of jobs that ended."""
    now = database_now(is_estimate=True)
    names = reading.read_names(
        now - read_span(period, now)[0], now=now, limit=MAX_NAMES, without_deliveries=not deliveries
    )
    queues, tasks = ({pair[number] for pair in names} for number in range(2))
    return {
        "queue_choices": sorted(queues | {selection.get("queue", "")} - {""}),
        "task_choices": sorted(tasks | {selection.get("task", "")} - {""}),
    }
