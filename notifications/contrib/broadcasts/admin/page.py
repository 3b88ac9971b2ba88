"""The list of broadcasts, and the page of one: how it is sent, who has read it, and its withdrawal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import formats
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.admin import LateModule, OwnedMixin, page_context
from notifications.contrib.broadcasts.admin.composing import FOLDER, SEND_PERMISSION, ComposerMixin
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import database
from notifications.inbox import job_path
from notifications.models import ACTIVE, Job, Notification

if TYPE_CHECKING:
    from notifications.contrib.broadcasts import starting
else:
    starting = LateModule("notifications.contrib.broadcasts.starting")

State = Broadcast.State

#: Notifications that are counted as read at most.
MAX_READ_COUNTED = 100_000
WITHDRAW_PERMISSION = "notifications_broadcasts.withdraw_broadcast"


@admin.register(Broadcast)
class BroadcastAdmin(ComposerMixin, OwnedMixin, admin.ModelAdmin):
    user_field = "sender"
    list_display = ("title", "sender", "audience_text", "state_now", "sent_of", "created_at")
    list_filter = ("state", "level")
    list_defer = ("body", "audience_values")
    search_fields = ("=id", "title")
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    fieldsets = (
        (_("Message"), {"fields": ("title", "body", "url", "level", "category")}),
        (
            _("Recipients"),
            {"fields": ("sender", "audience_text", "sent_of", "read_by", "withdrawn", "recipient_list")},
        ),
        (_("Times"), {"fields": ("created_at", "send_at", "sent_at", "withdrawn_at", "jobs")}),
    )

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        name = "notifications_broadcasts_broadcast"
        return [
            path("preview/", view(self.preview_view), name=f"{name}_preview"),
            path("<path:object_id>/withdraw/", view(self.withdraw_view), name=f"{name}_withdraw"),
            *super().get_urls(),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may view broadcasts; who sends or withdraws them may."""
        allowed = ("notifications_broadcasts.view_broadcast", SEND_PERMISSION, WITHDRAW_PERMISSION)
        return any(map(request.user.has_perm, allowed))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_withdraw_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(WITHDRAW_PERMISSION)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        _read_jobs(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row:
            _read_jobs([row])
            row.viewer = request.user
        return row

    def withdraw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether to withdraw a broadcast, and with a POST begin it."""
        if not self.has_withdraw_permission(request):
            raise PermissionDenied
        row = self._get_viewable(request, object_id)
        url = self._url("change", row)
        if not starting.can_withdraw(row):
            self.message_user(request, _("It is withdrawn already, or is being withdrawn."), messages.WARNING)
            return HttpResponseRedirect(url)
        if request.method == "POST" and self._withdraw(request, row, url):
            return HttpResponseRedirect(url)
        context = {
            **page_context(self, request),
            "title": _("Withdraw this notification?"),
            "is_scheduled": row.state == State.SENDING and starting.is_scheduled(row),
            "broadcast": row,
            "row": _build_notification(row),
            "text": self.sent_of(row),
            "read_by": self.read_by(row),
            "back_url": url,
        }
        return TemplateResponse(request, f"{FOLDER}/withdraw.html", context)

    def _withdraw(self, request: HttpRequest, row: Broadcast, url: str) -> bool:
        is_begun = self.begin(request, lambda: starting.begin_withdrawal(row.pk, by=request.user, url=url))
        if is_begun:
            self.log_change(request, row, "Withdrawn.")
            text = _("The notification is being withdrawn. You will be notified when it is done.")
            self.message_user(request, text, messages.SUCCESS)
        return is_begun is not None

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context |= {"state": self.state_now(row), "is_stopped": _is_stopped(row)}
            if row.state in (State.SENDING, State.WITHDRAWING):
                context["job_url"] = self._job_url(row.shown_job, row.viewer)
            if self.has_withdraw_permission(request) and starting.can_withdraw(row):
                context["withdraw_url"] = self._url("withdraw", row)
        return super().render_change_form(request, context, *args, **kwargs)

    def _get_viewable(self, request: HttpRequest, object_id: str) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404("The broadcast does not exist.")
        return row

    def _url(self, name: str, row: Broadcast) -> str:
        return reverse(f"{self.admin_site.name}:notifications_broadcasts_broadcast_{name}", args=[row.pk])

    @admin.display(description=_("state"))
    def state_now(self, row: Any) -> Any:
        if _is_stopped(row):
            is_sending = row.state == State.SENDING
            return _("Stopped while sending") if is_sending else _("Stopped while withdrawing")
        if row.state == State.SENDING and starting.is_scheduled(row):
            return _("To be sent on %(time)s") % {"time": times.format_short(row.send_at)}
        if row.shown_job and row.shown_job.state == Job.State.QUEUED:
            return _("Waiting to be sent") if row.state == State.SENDING else _("Waiting to be withdrawn")
        return row.get_state_display()

    @admin.display(description=_("sent"))
    def sent_of(self, row: Broadcast) -> Any:
        number = formats.number_format(row.sent, force_grouping=True)
        if row.state == State.SENT or row.sent >= row.recipients:
            return number
        total = formats.number_format(row.recipients, force_grouping=True)
        return _("%(count)s of %(total)s") % {"count": number, "total": total}

    @admin.display(description=_("read"))
    def read_by(self, row: Broadcast) -> str:
        """Return how many recipients have read it, of the notifications that are not deleted yet."""
        notes = Notification.objects.using(database()).filter(broadcast=row.pk, read_at__isnull=False)
        count = notes.values("pk")[: MAX_READ_COUNTED + 1].count()
        number = formats.number_format(min(count, MAX_READ_COUNTED), force_grouping=True)
        return f"{number}+" if count > MAX_READ_COUNTED else number

    @admin.display(description=_("recipients"))
    def recipient_list(self, row: Any) -> str:
        is_shown = self.admin_site.is_registered(Notification)
        if not (is_shown and row.viewer.has_perm("notifications.view_notification")):
            return "-"
        url = reverse(f"{self.admin_site.name}:notifications_notification_changelist")
        return format_html(
            '<a href="{}?broadcast={}">{}</a>', url, row.pk, _("Who got it, and who has read it")
        )

    @admin.display(description=_("jobs"))
    def jobs(self, row: Any) -> str:
        """Return links to the jobs, for those who may see them."""
        jobs = Job.objects.using(database()).in_bulk([id for id in (row.job, row.withdrawal_job) if id])
        texts = ((row.job, _("Sending")), (row.withdrawal_job, _("Withdrawal")))
        links = [
            format_html('<a href="{}">{}</a>', url, text)
            for id, text in texts
            if (url := self._job_url(jobs.get(id), row.viewer))
        ]
        return format_html(", ".join(["{}"] * len(links)), *links) if links else "-"

    def _job_url(self, job: Job | None, viewer: Any) -> str:
        """Return the page of a job, with its progress: that of the admin, or of its owner; "" for all others."""
        if job is None:
            return ""
        if self.admin_site.is_registered(Job) and viewer.has_perm("notifications.view_job"):
            return reverse(f"{self.admin_site.name}:notifications_job_change", args=[job.pk])
        return job_path(job.pk) if job.user_id == viewer.pk else ""


def _build_notification(row: Broadcast) -> Notification:
    """Return an unsaved notification as recipients have it, to be shown."""
    names = ("title", "body", "url", "level", "created_at")
    return Notification(**{name: getattr(row, name) for name in names})


def _read_jobs(rows: Any) -> None:
    """Set ``shown_job``: the job that sends each broadcast, or that withdraws it; None if it was deleted."""
    ids = {
        row.pk: row.job if row.state in (State.SENDING, State.SENT) else row.withdrawal_job for row in rows
    }
    jobs = Job.objects.using(database()).only("state", "user").in_bulk([id for id in ids.values() if id])
    for row in rows:
        row.shown_job = jobs.get(ids[row.pk])


def _is_stopped(row: Any) -> bool:
    is_active = row.state in (State.SENDING, State.WITHDRAWING)
    return is_active and (row.shown_job is None or row.shown_job.state not in ACTIVE)
