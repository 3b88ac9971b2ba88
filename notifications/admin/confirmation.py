"""The page that asks before jobs are changed, and for the time to which they are rescheduled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext

from notifications import times
from notifications.admin.mixins import page_context

#: What the log of changes says of one job.
LOG_TEXTS = {
    "retry": "Queued again.",
    "cancel": "Cancelled.",
    "run_now": "Run now.",
    "reschedule": "Rescheduled to {run_at:%Y-%m-%d %H:%M} UTC.",
}


class RescheduleForm(forms.Form):
    """When jobs run: a time to come, in the time zone of the page."""

    run_at = forms.DateTimeField(
        label=_lazy("Run at"),
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local", "autofocus": True}, format="%Y-%m-%dT%H:%M"
        ),
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        help_text = _("Times are in the time zone %(zone)s.") % {"zone": timezone.get_current_timezone_name()}
        self.fields["run_at"].help_text = help_text

    def clean_run_at(self) -> datetime:
        try:
            moment = times.as_utc(self.cleaned_data["run_at"])
        except OverflowError as exc:
            raise ValidationError(self.fields["run_at"].error_messages["invalid"]) from exc
        if moment <= times.now():
            raise ValidationError(_("This time is over. Choose a later one, or run the jobs now."))
        return moment


def read_form(request: HttpRequest) -> RescheduleForm:
    """Return the form that was sent, without data and errors before it was."""
    return RescheduleForm(request.POST if "confirmed" in request.POST else None)


def ask(
    model_admin: Any,
    request: HttpRequest,
    change: str,
    count: int,
    *,
    is_partial: bool = False,
    is_for_all: bool = False,
    form: RescheduleForm | None = None,
    counted: str = "",
) -> TemplateResponse:
    """Return the page that asks whether to change so many jobs, and when they are to run.

    ``is_partial``
        Whether there may be more of them.
    ``is_for_all``
        Whether they are all that the filters find, which a job changes in the background.
    ``counted``
        What the form sends back, by which the same jobs are found again.
    """
    selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
    context = {
        **page_context(model_admin, request),
        "title": question(change, count, is_partial=is_partial),
        "button": _button(change),
        "action": request.POST["action"],
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
        "is_for_all": is_for_all,
        "selected": selected[:1] if is_for_all else selected,
        "form": form,
        "counted": counted,
        "back_url": request.get_full_path(),
    }
    return TemplateResponse(request, "admin/notifications/job/confirm_change.html", context)


def question(change: str, count: int, *, is_partial: bool) -> str:
    """Return the question whether so many jobs are to be changed. With ``is_partial`` there may be more of them."""
    number = formats.number_format(count, force_grouping=True)
    amount = _("at least %(count)s") % {"count": number} if is_partial else number
    texts = {
        "retry": ngettext("Retry %(count)s job?", "Retry %(count)s jobs?", count),
        "cancel": ngettext("Cancel %(count)s job?", "Cancel %(count)s jobs?", count),
        "run_now": ngettext("Run %(count)s job now?", "Run %(count)s jobs now?", count),
        "reschedule": ngettext("Reschedule %(count)s job", "Reschedule %(count)s jobs", count),
    }
    return texts[change] % {"count": amount}


def _button(change: str) -> str:
    return {
        "retry": _("Retry jobs"),
        "cancel": _("Cancel jobs"),
        "run_now": _("Run jobs now"),
        "reschedule": _("Reschedule jobs"),
    }[change]
