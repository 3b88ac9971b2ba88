"""The overview page, and the fragment that it reloads."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode

import django
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _

from notifications.admin.mixins import ReadOnlyMixin, list_url
from notifications.contrib.operations.admin.overview import (
    changes,
    chart_filter,
    operating,
    retry,
    task_figures,
)
from notifications.contrib.operations.admin.overview.figures import OverviewFigures, read_figures
from notifications.contrib.operations.admin.overview.history import PERIODS
from notifications.contrib.operations.alerts.links import subject_url
from notifications.contrib.operations.models import Alert, Overview
from notifications.db.unavailable import UNAVAILABLE
from notifications.extension import hooks
from notifications.http.access import BACKGROUND_MARK, background_view
from notifications.models import Job
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

DEFAULT_PERIOD = "hour"
FOLDER = "admin/notifications_operations/overview"


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
        """Return whether the user may retry groups of failed jobs, by the permission to change jobs."""
        return request.user.has_perm("notifications.change_job")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Return the page."""
        self._require_permission(request)
        period, selection = self._period(request), chart_filter.read_selection(request)
        context = {
            **self._page_context(request, period),
            **self._figures_context(request, period, selection),
            **chart_filter.choices(period, selection),
            "title": _("Overview"),
            "figures_url": f"{self._url('figures')}?{urlencode({'period': period, **selection})}&{BACKGROUND_MARK}",
            "tasks_url": f"{self._url('tasks')}?period={period}",
            **(extra_context or {}),
        }
        response = TemplateResponse(request, f"{FOLDER}.html", context)
        response["Cache-Control"] = "private, no-store"
        return response

    def tasks_view(self, request: HttpRequest) -> HttpResponse:
        """Return the page with the figures of each task."""
        self._require_permission(request)
        period, order = self._period(request), request.GET.get("order", "")
        order = order if order in task_figures.ORDERS else task_figures.DEFAULT_ORDER
        tasks: task_figures.TaskFigures | None
        try:
            tasks = task_figures.read_tasks(period, order)
        except UNAVAILABLE as exc:
            log_database_error(exc)
            tasks = None
        context = {
            **self._page_context(request, period),
            "title": _("Tasks"),
            "tasks": tasks,
            "order": order,
            "orders": list(task_figures.ORDERS.items()),
            "overview_url": self._url("changelist"),
            "jobs_url": list_url(self, request, Job),
        }
        response = TemplateResponse(request, f"{FOLDER}/tasks.html", context)
        response["Cache-Control"] = "private, no-store"
        return response

    def _page_context(self, request: HttpRequest, period: str) -> dict[str, Any]:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return {
            **self.admin_site.each_context(request),
            "subtitle": None,
            "opts": self.opts,
            "breadcrumbs_are_list": django.VERSION >= (6, 1),
            "period": period,
            "period_label": PERIODS[period].label,
            "periods": [(name, known.label) for name, known in PERIODS.items()],
            "nonce": csp_nonce({}, request),
        }

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        """Return the figures without the page around them, or 304 if they cannot have changed."""
        self._require_permission(request)
        period, selection = self._period(request), chart_filter.read_selection(request)
        etag = changes.counter.etag(period, *([urlencode(selection)] if selection else []))
        if request.headers.get("If-None-Match") == etag:
            response: HttpResponse = HttpResponseNotModified()
        else:
            context = self._figures_context(request, period, selection)
            response = TemplateResponse(request, f"{FOLDER}/figures.html", context)
        response["ETag"] = etag
        response["Cache-Control"] = "private, no-store"
        return response

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to retry the jobs of a group, and with a POST that confirms it begin the job that does it."""
        self._require_permission(request)
        if not self.has_retry_permission(request):
            raise PermissionDenied
        return retry.respond(self, request, overview_url=self._url("changelist"))

    def change_view(self, request: HttpRequest, *, kind: str) -> HttpResponse:
        """Change a queue, a worker or an alert."""
        self._require_permission(request)
        return operating.respond(self, request, kind, overview_url=self._url("changelist"))

    def _figures_context(
        self, request: HttpRequest, period: str, selection: dict[str, str]
    ) -> dict[str, Any]:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        figures: OverviewFigures | None
        try:
            figures = read_figures(period, **selection)
            for alert in figures.alerts:
                alert.subject_url = subject_url(alert, partial(list_url, self, request))  # type: ignore[attr-defined]
            sections = [section for hook in hooks.overview_sections for section in hook(self, request)]
        except UNAVAILABLE as exc:
            log_database_error(exc)
            figures, sections = None, []
        return {
            "figures": figures,
            "sections": sections,
            "selection": selection,
            "period": period,
            "period_label": PERIODS[period].label,
            "x_format": PERIODS[period].time_format,
            "can_retry": self.has_retry_permission(request),
            "retry_url": self._url("retry"),
            "changes": {kind: self._url(kind) for kind in operating.permitted_changes(request)},
            "jobs_url": list_url(self, request, Job),
            "alerts_url": list_url(self, request, Alert),
            "can_view_attempts": request.user.has_perm("notifications.view_attempt"),
        }

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _period(self, request: HttpRequest) -> str:
        period = request.GET.get("period", DEFAULT_PERIOD)
        return period if period in PERIODS else DEFAULT_PERIOD

    def _url(self, name: str) -> str:
        return reverse(f"admin:notifications_operations_overview_{name}", current_app=self.admin_site.name)
