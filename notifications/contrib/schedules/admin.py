"""The admin of schedules, which staff can view, pause, resume and run now; and make, change and delete stored ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications.admin import LateModule, ReadOnlyMixin, list_url
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.timing import MAX_COUNTED_TICKS
from notifications.db import database
from notifications.jobs import can_view
from notifications.models import Job
from notifications.times import format_short

if TYPE_CHECKING:
    from notifications.contrib.schedules import admin_pages, declarations, operating, runs, stored, users
else:
    admin_pages = LateModule("notifications.contrib.schedules.admin_pages")
    stored = LateModule("notifications.contrib.schedules.stored")
    declarations = LateModule("notifications.contrib.schedules.declarations")
    operating = LateModule("notifications.contrib.schedules.operating")
    runs = LateModule("notifications.contrib.schedules.runs")
    users = LateModule("notifications.contrib.schedules.users")

logger = logging.getLogger("notifications")

#: Ticks that the page of a schedule shows.
MAX_TICKS_SHOWN = 25
#: Schedules that the overview shows at most: those that are due next.
MAX_SCHEDULES_SHOWN = 100
#: Schedules that one action runs at most.
MAX_SCHEDULES_RUN = 100


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("__str__", "state_now", "timing", "next_run", "last_run", "task_path")
    search_fields = ("name", "title", "task_path")
    ordering = ("name",)
    show_full_result_count = False
    actions = ("pause_schedules", "resume_schedules", "run_schedules")
    fields = ("name", "state_now", "timing", "next_run", "task_path", "declaration")
    add_form_template = "admin/notifications_schedules/schedule/form.html"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(partial(admin_pages.edit, self))
        return [
            path("<path:object_id>/edit/", view, name="notifications_schedules_schedule_edit"),
            *super().get_urls(),
        ]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Make a schedule."""
        return admin_pages.add(self, request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may have jobs enqueued with any arguments, periodically."""
        return all(
            map(request.user.has_perm, ("notifications_schedules.add_schedule", "notifications.add_job"))
        )

    def has_edit_permission(self, request: HttpRequest, row: Schedule) -> bool:
        """Return whether the user may change what a schedule says, and view the arguments that it has."""
        permissions = ("notifications_schedules.change_schedule", "notifications.add_job")
        may_change = all(map(request.user.has_perm, permissions)) and can_view(request.user, "arguments")
        return row.is_stored and may_change

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may delete a schedule: one that is declared would come again."""
        may_delete = request.user.has_perm("notifications_schedules.delete_schedule")
        return obj is not None and obj.is_stored and may_delete

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, with schedules that are declared and that no process has run yet."""
        if self.has_view_permission(request):
            operating.insert_declared()
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        newest = Tick.objects.filter(schedule=OuterRef("pk")).order_by("-due_at").values("pk")[:1]
        schedules: QuerySet[Schedule] = super().get_queryset(request)
        return schedules.annotate(newest_tick=Subquery(newest))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        rows = changelist.result_list
        ticks = Tick.objects.using(database()).in_bulk([row.newest_tick for row in rows if row.newest_tick])
        for row in rows:
            row.newest_tick = ticks.get(row.newest_tick)
            row.links_jobs = bool(list_url(self, request, Job))
        return changelist

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications_schedules.change_schedule")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications_schedules.run_schedule")

    @admin.action(description=_("Pause selected schedules"), permissions=["operate"])
    def pause_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        changed = operating.pause(queryset.values_list("pk", flat=True))
        self._log(request, changed, "Paused.")
        text = ngettext("%(count)d schedule was paused.", "%(count)d schedules were paused.", len(changed))
        self._report(
            request, changed, text, _("No schedule was paused, because all of them are paused already.")
        )

    @admin.action(description=_("Resume selected schedules"), permissions=["operate"])
    def resume_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        changed = operating.resume(queryset.values_list("pk", flat=True))
        self._log(request, changed, "Resumed.")
        text = ngettext("%(count)d schedule was resumed.", "%(count)d schedules were resumed.", len(changed))
        self._report(request, changed, text, _("No schedule was resumed, because none of them is paused."))

    @admin.action(description=_("Run selected schedules now"), permissions=["run"])
    def run_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        names = list(queryset.values_list("pk", flat=True)[: MAX_SCHEDULES_RUN + 1])
        if len(names) > MAX_SCHEDULES_RUN:
            text = _("Select at most %(count)d schedules.") % {"count": MAX_SCHEDULES_RUN}
            return self.message_user(request, text, messages.ERROR)
        enqueued = []
        for name in names:
            try:
                operating.run_now(name)
            except operating.ScheduleNotRun as exc:
                self.message_user(request, str(exc), messages.ERROR)
            else:
                enqueued.append(name)
        self._log(request, enqueued, "Run now.")
        text = ngettext("%(count)d job was enqueued.", "%(count)d jobs were enqueued.", len(enqueued))
        self._report(request, enqueued, text, "")

    def _report(self, request: HttpRequest, changed: list[str], text: str, none: Any) -> None:
        if changed:
            self.message_user(request, text % {"count": len(changed)}, messages.SUCCESS)
        elif none:
            self.message_user(request, none, messages.WARNING)

    def _log(self, request: HttpRequest, names: Iterable[str], text: str) -> None:
        for row in Schedule.objects.using(database()).filter(pk__in=list(names)):
            self.log_change(request, row, text)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            ticks = Tick.objects.using(database()).filter(schedule=row.pk).order_by("-due_at")
            links_jobs = list_url(self, request, Job)
            context["ticks"] = [
                {
                    "due_at": format_short(tick.due_at),
                    "outcome": describe_tick(tick),
                    "detail": tick.detail,
                    "job": job_link(tick, tick.job, self.admin_site.name) if links_jobs else "",
                }
                for tick in ticks[:MAX_TICKS_SHOWN]
            ]
            if self.has_operate_permission(request):
                context["offered_change"] = "resume_schedules" if row.paused_at else "pause_schedules"
            is_known = row.is_stored or row.name in declarations.declared_schedules()
            context["offers_run"] = self.has_run_permission(request) and is_known
            if self.has_edit_permission(request, row):
                site = self.admin_site.name
                context["edit_url"] = reverse(
                    f"{site}:notifications_schedules_schedule_edit", args=[quote(row.pk)]
                )
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"))
    def state_now(self, row: Schedule) -> str:
        """Return whether the schedule is declared, paused, or has a problem."""
        if not row.is_stored and row.name not in declarations.declared_schedules():
            return _("Not declared")
        if row.paused_at:
            text = _("Paused since %(when)s") % {"when": format_short(row.paused_at)}
            return f"{text} ({row.get_paused_by_display()})" if row.paused_by else text
        if row.problem in (Schedule.Problem.FAILED, Schedule.Problem.GIVEN_UP):
            return _("Failing since %(when)s") % {"when": format_short(row.problem_since)}
        if row.problem == Schedule.Problem.MISSED:
            return _("Missed since %(when)s") % {"when": format_short(row.problem_since)}
        if row.problem == Schedule.Problem.SKIPPED:
            return _("Skipped since %(when)s") % {"when": format_short(row.problem_since)}
        return _("Active")

    @admin.display(description=_("next run"), ordering="next_tick")
    def next_run(self, row: Schedule) -> str:
        """Return when the schedule is due next, in the time zone of the page, unless it does not run."""
        is_known = row.is_stored or row.name in declarations.declared_schedules()
        if row.paused_at or not is_known or row.next_tick is None:
            return "-"
        return format_short(row.next_tick)

    @admin.display(description=_("last run"))
    def last_run(self, row: Schedule) -> str:
        """Return when the schedule was due last, and what became of it, with a link to the job."""
        tick: Tick | None = row.newest_tick  # type: ignore[attr-defined]
        if tick is None:
            return "-"
        text = f"{format_short(tick.due_at)}: {describe_tick(tick)}"
        links_jobs = row.links_jobs  # type: ignore[attr-defined]
        return (job_link(tick, text, self.admin_site.name) if links_jobs else "") or text

    @admin.display(description=_("declaration"))
    def declaration(self, row: Schedule) -> str:
        """Return the other options of the declaration. The arguments may be secrets."""
        declaration = stored.find_declaration(row)
        if declaration is None:
            return "-"
        values = {
            "owner": declaration.owner or declaration.user,
            "zone": stored.OWNER_ZONE if row.is_in_owner_zone else "",
            "group": declaration.group,
            "queue": declaration.queue,
            "overlap": "allow" if declaration.allows_overlap else "skip",
            "grace": f"{declaration.grace.total_seconds():g} s",
        }
        text = ", ".join(f"{name}: {value}" for name, value in values.items() if value)
        problem = " ".join(users.find_problem(declaration) or ())
        return format_html('{}<p class="errornote">{}</p>', text, problem) if problem else text


def read_overview_sections(model_admin: Any, request: HttpRequest) -> list[dict[str, Any]]:
    """Return the section of the overview: the schedules with a problem first, then by their next tick."""
    rows = Schedule.objects.using(database()).order_by("next_tick", "name")[:MAX_SCHEDULES_SHOWN]
    return [
        {
            "template": "admin/notifications_schedules/schedule/overview.html",
            "schedules": sorted(rows, key=lambda schedule: not schedule.problem),
            "url": list_url(model_admin, request, Schedule),
        }
    ]


def describe_tick(tick: Tick) -> str:
    """Return what became of a tick, as staff read it."""
    if tick.outcome == Tick.Outcome.MISSED:
        number = f"{tick.count:,}" if tick.count != MAX_COUNTED_TICKS + 1 else f"{MAX_COUNTED_TICKS:,}+"
        return _("Missed") if tick.count == 1 else _("%(count)s missed") % {"count": number}
    if tick.outcome != Tick.Outcome.ENQUEUED:
        return tick.get_outcome_display()
    if not tick.job_state:
        text = _("Active")
    elif tick.job_state == runs.DELETED:
        text = _("Deleted")
    else:
        text = Job.State(tick.job_state).label
    return _("%(state)s (run by hand)") % {"state": text} if tick.is_manual else str(text)


def job_link(tick: Tick, text: Any, site_name: str) -> str:
    """Return a link to a tick's job in an admin site as HTML, "" if it has none."""
    if not tick.job or tick.job_state == runs.DELETED:
        return ""
    url = reverse("admin:notifications_job_change", args=[tick.job], current_app=site_name)
    return format_html('<a href="{}">{}</a>', url, text)
