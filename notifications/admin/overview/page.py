"""The overview page, the fragment that it reloads, and the retry of a group of failures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import django
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.admin.mixins import ReadOnlyMixin
from notifications.admin.overview import changes, failures
from notifications.admin.overview.figures import OverviewFigures, read_figures
from notifications.admin.overview.history import PERIODS
from notifications.exceptions import TooManyJobs
from notifications.jobs.transitions import manual
from notifications.models import Alert, Overview
from notifications.problems import log_database_error
from notifications.templatetags.notifications import csp_nonce

DEFAULT_PERIOD = "hour"
#: How long ago the begin of a group may be that is retried: the longest period, and the time that a page is open.
MAX_RETRY_AGE = timedelta(days=8)
FOLDER = "admin/notifications/overview"


@admin.register(Overview)
class OverviewAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Has one page in place of a list. The permission ``notifications.view_overview`` allows to view it."""

    def get_urls(self) -> list[Any]:
        """Return the URLs of the page, its fragment and the retry. There are no rows to list or change."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="notifications_overview_changelist"),
            path("figures/", view(self.figures_view), name="notifications_overview_figures"),
            path("retry/", view(self.retry_view), name="notifications_overview_retry"),
        ]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry groups of failed jobs, by the permission to change jobs."""
        return request.user.has_perm("notifications.change_job")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Return the page."""
        self._require_permission(request)
        period = self._period(request)
        context = {
            **self.admin_site.each_context(request),
            **self._figures_context(request, period),
            "title": _("Overview"),
            "subtitle": None,
            "opts": self.opts,
            "breadcrumbs_are_list": django.VERSION >= (6, 1),
            "periods": [(name, known.label) for name, known in PERIODS.items()],
            "nonce": csp_nonce({}, request),
            "figures_url": f"{self._url('figures')}?period={period}",
            **(extra_context or {}),
        }
        response = TemplateResponse(request, f"{FOLDER}.html", context)
        response["Cache-Control"] = "private, no-store"
        return response

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        """Return the figures without the page around them, or 304 if they cannot have changed."""
        self._require_permission(request)
        period = self._period(request)
        etag = changes.counter.etag(period)
        if request.headers.get("If-None-Match") == etag:
            response: HttpResponse = HttpResponseNotModified()
        else:
            context = self._figures_context(request, period)
            response = TemplateResponse(request, f"{FOLDER}/figures.html", context)
        response["ETag"] = etag
        response["Cache-Control"] = "private, no-store"
        return response

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to retry the jobs of a group, and with a POST that confirms it queue them again."""
        self._require_permission(request)
        if not self.has_retry_permission(request):
            raise PermissionDenied
        fields = request.POST if request.method == "POST" else request.GET
        group = {name: fields.get(name, "")[:500] for name in ("task_path", "exception", "location")}
        since = _parse_since(fields.get("since", ""))
        # PostgreSQL refuses NUL in texts.
        if since is None or not group["task_path"] or any("\0" in value for value in group.values()):
            self.message_user(request, _("This group is unknown. Choose one on this page."), messages.ERROR)
            return redirect(self._url("changelist"))
        try:
            ids = failures.find_jobs(since, **group)
            if ids and request.method == "POST" and "confirm" in request.POST:
                self._retry(request, ids, group["task_path"])
                return redirect(self._url("changelist"))
        except (OperationalError, InterfaceError) as exc:
            log_database_error(exc)
            text = _(
                "The database is unavailable. Some jobs may be queued again already. Check them and try again."
            )
            self.message_user(request, text, messages.ERROR)
            return redirect(self._url("changelist"))
        if not ids:
            text = _("No job was queued again, because none of this group is failed any more.")
            self.message_user(request, text, messages.WARNING)
            return redirect(self._url("changelist"))
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Retry failed jobs"),
            "opts": self.opts,
            "breadcrumbs_are_list": django.VERSION >= (6, 1),
            "count": len(ids),
            "is_capped": len(ids) >= failures.MAX_FAILED_READ,
            "group": group,
            "since": since.isoformat(),
            "overview_url": self._url("changelist"),
            "nonce": csp_nonce({}, request),
        }
        return TemplateResponse(request, f"{FOLDER}/retry.html", context)

    def _retry(self, request: HttpRequest, ids: list[Any], task_path: str) -> None:
        try:
            queued = len(manual.retry(ids))
        except TooManyJobs as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return
        if queued:
            self._log(request, queued, task_path)
        text = ngettext("%(count)d job was queued again.", "%(count)d jobs were queued again.", queued)
        if skipped := len(ids) - queued:
            text += " " + ngettext(
                "%(skipped)d was skipped, because it is not failed any more.",
                "%(skipped)d were skipped, because they are not failed any more.",
                skipped,
            )
        level = messages.SUCCESS if queued else messages.WARNING
        self.message_user(request, text % {"count": queued, "skipped": skipped}, level)

    def _log(self, request: HttpRequest, queued: int, task_path: str) -> None:
        """Write one entry to the admin's log for the whole group."""
        from django.contrib.admin.models import CHANGE, LogEntry
        from django.contrib.contenttypes.models import ContentType

        LogEntry.objects.create(
            user_id=request.user.pk,
            content_type=ContentType.objects.get_for_model(Overview, for_concrete_model=False),
            object_id="",
            object_repr=task_path[:200],
            action_flag=CHANGE,
            change_message=f"Queued {queued} failed jobs again.",
        )

    def _figures_context(self, request: HttpRequest, period: str) -> dict[str, Any]:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        figures: OverviewFigures | None
        try:
            figures = read_figures(period)
        except (OperationalError, InterfaceError) as exc:
            log_database_error(exc)
            figures = None
        return {
            "figures": figures,
            "period": period,
            "period_label": PERIODS[period].label,
            "x_format": PERIODS[period].time_format,
            "can_retry": self.has_retry_permission(request),
            "retry_url": self._url("retry"),
            "alerts_url": self._alerts_url(request),
        }

    def _alerts_url(self, request: HttpRequest) -> str:
        if self.admin_site.is_registered(Alert) and request.user.has_perm("notifications.view_alert"):
            return reverse("admin:notifications_alert_changelist", current_app=self.admin_site.name)
        return ""

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _period(self, request: HttpRequest) -> str:
        period = request.GET.get("period", DEFAULT_PERIOD)
        return period if period in PERIODS else DEFAULT_PERIOD

    def _url(self, name: str) -> str:
        return reverse(f"admin:notifications_overview_{name}", current_app=self.admin_site.name)


def _parse_since(text: str) -> datetime | None:
    try:
        since = parse_datetime(text)
    except ValueError:
        return None
    if since is None or since.tzinfo is None or times.now() - since > MAX_RETRY_AGE:
        return None
    return since
