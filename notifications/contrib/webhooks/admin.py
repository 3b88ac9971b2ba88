"""The admin of webhooks: to add, edit, test, turn off and on, and their log of attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import times
from notifications.admin import OwnedMixin, list_url
from notifications.conf import settings
from notifications.contrib.webhooks import endpoints
from notifications.contrib.webhooks.endpoints import MAX_ENDPOINTS, check_url, has_room, join_events
from notifications.contrib.webhooks.handlers import EVENTS
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.contrib.webhooks.signing import new_secret
from notifications.db import database
from notifications.models import Job
from notifications.times import format_exact, format_short

#: Attempts that the page of a webhook shows.
MAX_ATTEMPTS_SHOWN = 25
#: Webhooks that one action changes at most.
MAX_CHANGED = 100


class WebhookForm(forms.ModelForm):
    """The form of a webhook, whose URL must be one that may be called."""

    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(event, event) for event in EVENTS],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = WebhookEndpoint
        fields = ("url", "description", "user", "events")
        widgets = {"url": AdminTextInputWidget(attrs={"class": "vLargeTextField", "inputmode": "url"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "events" in self.fields:
            self.initial["events"] = self.instance.events.split() or EVENTS

    def clean_url(self) -> str:
        try:
            return check_url(self.cleaned_data["url"])
        except ValueError as exc:
            raise ValidationError(str(exc)) from exc

    def clean_events(self) -> str:
        return join_events(self.cleaned_data["events"])

    def clean_user(self) -> Any:
        user = self.cleaned_data["user"]
        key = None if user is None else user.pk
        is_moved = self.instance._state.adding or self.instance.user_id != key
        if is_moved and not has_room(key):
            text = _("There are %(count)d webhooks of this owner already.") % {"count": MAX_ENDPOINTS}
            raise ValidationError(text)
        return user


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OwnedMixin, admin.ModelAdmin):
    form = WebhookForm
    list_display = ("__str__", "host", "user", "events", "state_now", "created_at")
    search_fields = ("description",)
    raw_id_fields = ("user",)
    ordering = ("-id",)
    sortable_by = ()
    actions = ("test_webhooks", "resend_webhooks", "turn_on_webhooks", "turn_off_webhooks", "rotate_webhooks")
    has_change_permission = admin.ModelAdmin.has_change_permission
    has_delete_permission = admin.ModelAdmin.has_delete_permission
    readonly_fields = ("state_now", "signing_secret", "previous_until", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return settings.WEBHOOKS and request.user.has_perm("notifications_webhooks.add_webhookendpoint")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._warn_of_off(request)
        return super().changelist_view(request, extra_context)

    def _warn_of_off(self, request: HttpRequest) -> None:
        if request.method == "GET" and not settings.WEBHOOKS:
            text = _("Webhooks are off, so no events are sent. Set NOTIFICATIONS['WEBHOOKS'] to True.")
            self.message_user(request, text, messages.WARNING)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = ["description", "url", "user", "events"]
        if obj is None:
            return fields
        if request.user.has_perm("notifications_webhooks.view_webhook_secret"):
            fields.append("signing_secret")
        return [*fields, *(["previous_until"] if obj.previous_until else []), "state_now", "created_at"]

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        if not change:
            obj.secret, obj.created_at = new_secret(), times.now()
            obj.save(using=database())
        elif names := [name for name in form.changed_data if name in WebhookForm.Meta.fields]:
            # Not all: what follows from attempts may have changed since the row was read.
            obj.save(using=database(), update_fields=names)

    def delete_model(self, request: HttpRequest, obj: WebhookEndpoint) -> None:
        endpoints.delete(obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for id in list(queryset.values_list("pk", flat=True)):
            endpoints.delete(id)

    @admin.action(description=_("Send a test event"), permissions=["change"])
    def test_webhooks(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._call_each(request, queryset, endpoints.send_test, "Sent a test event.")
        text = ngettext("%(count)d test event is sent.", "%(count)d test events are sent.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    @admin.action(description=_("Send failed events again"), permissions=["change"])
    def resend_webhooks(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        counts: list[int] = []
        self._call_each(
            request,
            queryset,
            lambda id: counts.append(endpoints.resend_failed(id)),
            "Sent failed events again.",
        )
        text = ngettext("%(count)d event is sent again.", "%(count)d events are sent again.", sum(counts))
        self.message_user(request, text % {"count": sum(counts)}, messages.SUCCESS)

    @admin.action(description=_("Turn on"), permissions=["change"])
    def turn_on_webhooks(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._call_each(
            request, queryset.filter(off_at__isnull=False), endpoints.turn_on, "Turned on."
        )
        text = ngettext("%(count)d webhook was turned on.", "%(count)d webhooks were turned on.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    @admin.action(description=_("Turn off"), permissions=["change"])
    def turn_off_webhooks(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._call_each(
            request, queryset.filter(off_at__isnull=True), endpoints.turn_off, "Turned off."
        )
        text = ngettext("%(count)d webhook was turned off.", "%(count)d webhooks were turned off.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    @admin.action(
        description=_("Replace the secret; the old one signs too for a day"), permissions=["change"]
    )
    def rotate_webhooks(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = self._call_each(request, queryset, endpoints.rotate_secret, "Replaced the secret.")
        text = ngettext("%(count)d secret was replaced.", "%(count)d secrets were replaced.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    def _call_each(
        self,
        request: HttpRequest,
        queryset: QuerySet[WebhookEndpoint],
        change: Callable[[Any], object],
        log: str,
    ) -> int:
        """Call a function with the id of each row, write the log of the admin, and return how many there were."""
        count = 0
        for row in list(queryset[:MAX_CHANGED]):
            try:
                change(row.pk)
            except ObjectDoesNotExist:
                continue  # deleted meanwhile
            self.log_change(request, row, log)
            count += 1
        return count

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        self._warn_of_off(request)
        row = kwargs.get("obj")
        if row is not None:
            rows = WebhookAttempt.objects.using(database()).filter(endpoint=row.pk).order_by("-started_at")
            links_jobs = list_url(self, request, Job)
            context["attempts"] = [
                {
                    "started_at": format_exact(attempt.started_at),
                    "event": attempt.event,
                    "outcome": attempt.status or attempt.error,
                    "milliseconds": attempt.milliseconds,
                    "job_url": self._job_url(attempt) if links_jobs else "",
                }
                for attempt in rows[:MAX_ATTEMPTS_SHOWN]
            ]
            if self.has_change_permission(request):
                turn = "turn_on_webhooks" if row.off_at else "turn_off_webhooks"
                names = ("test_webhooks", "resend_webhooks", turn, "rotate_webhooks")
                context["offered_actions"] = [
                    (name, getattr(type(self), name).short_description) for name in names
                ]
        return super().render_change_form(request, context, *args, **kwargs)

    def _job_url(self, attempt: WebhookAttempt) -> str:
        return reverse(f"{self.admin_site.name}:notifications_job_change", args=[attempt.job])

    @admin.display(description=_("host"))
    def host(self, row: WebhookEndpoint) -> str:
        """Return the host of the URL, whose path may be a secret of the receiver."""
        return urlsplit(row.url).netloc

    @admin.display(description=_("state"))
    def state_now(self, row: WebhookEndpoint) -> str:
        """Return whether it is on, since when it fails, or since when and why it is off."""
        if row.off_at:
            values = {"when": format_short(row.off_at), "reason": row.get_off_reason_display()}
            return _("Off since %(when)s. %(reason)s") % values
        if row.failing_since:
            return _("Failing since %(when)s") % {"when": format_short(row.failing_since)}
        return _("On")

    @admin.display(description=_("secret"))
    def signing_secret(self, row: WebhookEndpoint) -> str:
        """Return the secret, which only those see who may."""
        return row.secret
