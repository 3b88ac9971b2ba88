"""Write a notification to many users: a form, a preview with the number of recipients, and a confirmation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.contrib import messages
from django.contrib.admin import helpers
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import formats, translation
from django.utils.translation import gettext as _

from notifications import times, validators
from notifications.admin import LateModule, ModelAdminBase, page_context
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import database
from notifications.exceptions import NotificationsError
from notifications.jobs.reader_languages import read_languages
from notifications.models import Notification, parse_id, uuid7

if TYPE_CHECKING:
    from notifications import api
    from notifications.contrib.broadcasts import audiences, starting
    from notifications.contrib.broadcasts.admin import forms
else:
    api = LateModule("notifications.api")
    audiences = LateModule("notifications.contrib.broadcasts.audiences")
    forms = LateModule("notifications.contrib.broadcasts.admin.forms")
    starting = LateModule("notifications.contrib.broadcasts.starting")

FOLDER = "admin/notifications_broadcasts/broadcast"
#: The permission to send, and the length of the description of an audience.
SEND_PERMISSION, MAX_AUDIENCE_LENGTH = "notifications.add_notification", 500


class ComposerMixin(ModelAdminBase):
    """Adds the composer, in place of Django's page that adds a row, to an admin of broadcasts."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(SEND_PERMISSION)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show the form; with a POST the preview, or the form again; with a confirmation begin to send.

        The query of the address fills fields, as in Django's own pages.
        """
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            initial = self.get_changeform_initial_data(request)
            values = _message_to_affected(initial.get("affected", ""), request.user)
            return self._show_form(
                request, forms.ComposerForm(initial={**values, **initial}, user=request.user)
            )
        if "_test" in request.POST:
            return self._send_test(request)
        form = forms.ComposerForm(request.POST, user=request.user, max_counted=audiences.MAX_USERS_COUNTED)
        if "_edit" in request.POST or not form.is_valid():
            return self._show_form(request, form)
        broadcast = _build(form, request)
        if "_send" in request.POST and (response := self._send(request, broadcast)):
            return response
        return self._show_preview(request, form, broadcast)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Return the places in which recipients see what was typed so far, and how many they are, without the page."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = forms.ComposerForm(
            request.POST, user=request.user, max_counted=audiences.MAX_USERS_COUNTED_LIVE
        )
        form.is_valid()
        return TemplateResponse(request, f"{FOLDER}/places.html", self._describe_places(request, form))

    def _send_test(self, request: HttpRequest) -> HttpResponse:
        """Notify the user alone, and show the form or the preview again, as they were."""
        form = forms.ComposerForm(request.POST, user=request.user, max_counted=0)
        if not form.is_valid():
            return self._show_form(request, form)
        broadcast = Broadcast(translations=json.dumps(form.translations))
        form.fill(broadcast)
        title, body = audiences.Texts(broadcast).choose(
            read_languages([request.user.pk]).get(request.user.pk, "")
        )
        names = ("url", "level", "category")
        values = {name: getattr(broadcast, name) for name in names}
        api.notify(request.user, title, body=body, **values)
        self.message_user(request, _("Sent to you alone. Look at the bell."), messages.SUCCESS)
        whole = forms.ComposerForm(request.POST, user=request.user, max_counted=audiences.MAX_USERS_COUNTED)
        if request.POST.get("broadcast") and whole.is_valid():
            return self._show_preview(request, whole, _build(whole, request))
        return self._show_form(request, form)

    def _describe_places(self, request: HttpRequest, form: forms.ComposerForm) -> dict[str, Any]:
        """Return the context of ``places.html``: a row with what is valid of the message, and the recipients."""
        values = getattr(form, "cleaned_data", {})
        row = Notification(created_at=times.now(), level=values.get("level") or Notification.Level.INFO)
        row.title = (
            values.get("title") or form.data.get("title", "")[: validators.MAX_TITLE_LENGTH] or _("Title")
        )
        row.body, row.url = values.get("body", ""), values.get("url", "")
        recipients = getattr(form, "recipients", None)
        errors = [
            str(error)
            for field in ("audience_kind", *forms.FIELD_OF_KIND.values())
            for error in form.errors.get(field, ())
        ]
        is_chosen = bool(form.data.get("audience_kind"))
        return {
            "row": row,
            "recipients": recipients,
            "number": formats.number_format(recipients or 0, force_grouping=True),
            "is_more": recipients is not None and form.has_more_recipients,
            "limit": formats.number_format(audiences.MAX_USERS_COUNTED, force_grouping=True),
            "recipients_error": errors[0] if errors and is_chosen else "",
            "languages": [name for code, name in form.languages if form.data.get(f"title_{code}")],
        }

    def _send(self, request: HttpRequest, broadcast: Broadcast) -> HttpResponse | None:
        """Begin to send, and redirect to the page of the broadcast. None: it failed, and a message says why."""
        url = reverse(
            f"{self.admin_site.name}:notifications_broadcasts_broadcast_change", args=[broadcast.pk]
        )
        is_new = self.begin(request, lambda: starting.begin_sending(broadcast, url=url))
        if is_new is None:
            return None
        if is_new:
            self.log_addition(request, broadcast, starting.describe_recipients(broadcast))
            if broadcast.send_at:
                text = _("It will be sent on %(time)s. Withdraw it to stop it.")
                text %= {"time": times.format_exact(broadcast.send_at)}
            else:
                text = _(
                    "The notification is being sent. You can leave this page; you will be notified when it is done."
                )
            self.message_user(request, text, messages.SUCCESS)
        else:
            text = _("This notification was sent already. It is not sent again.")
            self.message_user(request, text, messages.WARNING)
            if not Broadcast.objects.using(database()).filter(pk=broadcast.pk).exists():
                # Another broadcast was sent to those affected by the failure.
                url = reverse(f"{self.admin_site.name}:notifications_broadcasts_broadcast_changelist")
        return HttpResponseRedirect(url)

    def begin(self, request: HttpRequest, function: Callable[[], bool]) -> bool | None:
        """Return what a function of ``starting`` returns; None if it failed, and a message says why."""
        try:
            return function()
        except (NotificationsError, ImproperlyConfigured) as exc:  # too many jobs, or no engine
            self.message_user(request, str(exc), messages.ERROR)
        return None

    def _show_form(self, request: HttpRequest, form: forms.ComposerForm) -> HttpResponse:
        named = ("audience_kind", *forms.FIELD_OF_KIND.values())
        recipients = [name for name in form.fields if name in named]
        fieldsets = [
            (_("Message"), {"fields": ["title", "body", "url", "level", "category"]}),
            *(
                (name, {"fields": [f"title_{code}", f"body_{code}"], "classes": ["collapse"]})
                for code, name in form.languages
            ),
            (_("Recipients"), {"fields": [*recipients, "affected"]}),
            (_("Time"), {"fields": ["send_at"]}),
        ]
        context = {
            "title": _("Send a notification"),
            "adminform": helpers.AdminForm(form, fieldsets, {}, model_admin=self),
            "errors": form.errors,
            "error_fields": [form[name] for name in form.errors if name in form.fields],
            **self._describe_places(request, form),
        }
        return self._respond(request, "compose", context)

    def _show_preview(
        self, request: HttpRequest, form: forms.ComposerForm, broadcast: Broadcast
    ) -> HttpResponse:
        number = formats.number_format(broadcast.recipients, force_grouping=True)
        row = Notification(created_at=times.now())
        form.fill(row)
        context = {
            "title": _("Preview"),
            "form": form,
            "broadcast": broadcast,
            "row": row,
            "is_counted": not form.has_more_recipients,
            "inactive": form.inactive,
            "translations": [
                (name, form.translations[code]) for code, name in form.languages if code in form.translations
            ],
        }
        if not context["is_counted"]:
            number = f"{number}+"
        context["number"] = number
        return self._respond(request, "preview", context)

    def _respond(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        context = {
            **page_context(self, request),
            "media": self.media,
            "max_counted": formats.number_format(audiences.MAX_USERS_COUNTED, force_grouping=True),
            **context,
        }
        return TemplateResponse(request, f"{FOLDER}/{template}.html", context)


def _message_to_affected(text: str, user: Any) -> dict[str, str]:
    """Return the first values of the fields for users that an app names, with its message in each language."""
    if not (audience := audiences.find_audience(audiences.read_signed_audience(text, user))):
        return {}
    values: dict[str, str] = {"audience_kind": str(audiences.Kind.AFFECTED)}
    for code in ("", *(code for code, _name in audiences.offered_languages())):
        with translation.override(code or django_settings.LANGUAGE_CODE):
            message = audience.write_message()
        if code:
            values |= {f"{name}_{code}": message[name] for name in ("title", "body")}
        else:
            values |= message
    return values


def _build(form: forms.ComposerForm, request: HttpRequest) -> Broadcast:
    """Return the broadcast of a valid form. A form that is sent twice has the same id."""
    assert form.audience is not None
    broadcast = Broadcast(
        id=parse_id(request.POST.get("broadcast", "")) or uuid7(),
        sender_id=request.user.pk,
        audience_kind=form.audience.kind,
        audience_values=json.dumps(form.audience.values),
        audience_text=validators.shortened(form.audience.describe(), MAX_AUDIENCE_LENGTH),
        recipients=form.recipients,
        translations=json.dumps(form.translations),
        send_at=form.cleaned_data["send_at"],
        created_at=times.now(),
    )
    form.fill(broadcast)
    return broadcast
