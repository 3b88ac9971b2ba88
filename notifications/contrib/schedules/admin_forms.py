"""The forms of the admin: which task is scheduled, and with what arguments, when and for whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings as django_settings
from django.contrib.admin import widgets
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from notifications import validators
from notifications.admin import ArgumentsForm
from notifications.contrib.schedules.drafts import DEFAULTS, ScheduleDraft
from notifications.contrib.schedules.stored import OWNER_ZONE
from notifications.jobs import find_project_task
from notifications.models import Job

#: The fields besides the arguments, in their order.
FIELDS = ("title", "cron", "every", "zone", "owner")


@cache
def _zone_names() -> list[str]:
    """Return the names of places. Finding them reads hundreds of files."""
    return [name for name in available_timezones() if "/" in name and not name.startswith("Etc/")]


class TaskForm(forms.Form):
    """The dotted path of a task. ``task`` is the task itself, once valid."""

    task = forms.CharField(
        label=_("Task"),
        widget=widgets.AdminTextInputWidget(
            attrs={"list": "tasks", "autofocus": True, "spellcheck": "false", "dir": "ltr"}
        ),
        help_text=_("The dotted path of a function with @task, as shop.tasks.report."),
    )

    def clean_task(self) -> Any:
        try:
            return find_project_task(self.cleaned_data["task"])
        except ImportError as exc:
            raise ValidationError(str(exc)) from exc


class ScheduleForm(ArgumentsForm):
    """The arguments of a task by its signature, and the other options of a stored schedule.

    ``values``
        What the schedule says as yet, as the arguments of ``schedule()``; None for a new one.
    ``draft``
        What it is to say, once valid.
    """

    draft: ScheduleDraft

    def __init__(self, task: Any, values: Mapping[str, Any] | None, *, data: Any = None) -> None:
        self._task, self._values = task, {**DEFAULTS, **(values or {})}
        args, kwargs = ((values or {}).get(key, empty) for key, empty in (("args", []), ("kwargs", {})))
        path = task.module_path
        super().__init__(
            task, Job(task_path=path, args=json.dumps(list(args)), kwargs=json.dumps(kwargs)), data=data
        )
        # A change of the page after its times were shown shows them again.
        self.fields["shown"] = forms.CharField(widget=forms.HiddenInput, required=False, max_length=300)
        text = widgets.AdminTextInputWidget
        # Also one that is no place, if it is chosen already.
        zones = {"UTC", self._values.get("zone", "")} - {"", OWNER_ZONE}
        self.fields |= {
            "title": forms.CharField(
                label=_("Title"),
                required=False,
                max_length=validators.MAX_TITLE_LENGTH,
                widget=text(attrs={"dir": "auto"}),
                help_text=_("By default the name of the task."),
            ),
            "cron": forms.CharField(
                label=_("Cron expression"),
                required=False,
                widget=text(attrs={"spellcheck": "false", "dir": "ltr"}),
                help_text=_("Minute, hour, day of month, month, day of week: 0 8 * * 1 is Mondays at 8."),
            ),
            "every": forms.DurationField(
                label=_("Or every"),
                required=False,
                widget=text(attrs={"dir": "ltr"}),
                help_text=_("An interval in place of a cron expression: 0:10:00 is ten minutes."),
            ),
            "zone": forms.ChoiceField(
                label=_("Time zone"),
                required=False,
                choices=[
                    ("", _("That of the site: %(zone)s") % {"zone": django_settings.TIME_ZONE}),
                    (OWNER_ZONE, _("That of the owner at each run")),
                    *((name, name) for name in sorted({*_zone_names(), *zones})),
                ],
                help_text=_("Of the cron expression."),
            ),
            "owner": forms.CharField(
                label=_("Owner"),
                required=False,
                widget=text(attrs={"spellcheck": "false"}),
                help_text=_("The name of the user to whom the jobs belong. Empty for none."),
            ),
        }
        self.initial |= {name: self._values.get(name) or "" for name in FIELDS}
        if values is not None:  # a schedule keeps its owner
            del self.fields["owner"]
        self.option_names = [name for name in FIELDS if name in self.fields]

    @property
    def option_fields(self) -> list[Any]:
        """The fields besides the arguments."""
        return [self[name] for name in self.option_names]

    @property
    def argument_fields(self) -> list[Any]:
        """The fields of the arguments."""
        return [field for field in self.visible_fields() if field.name not in FIELDS]

    def clean_owner(self) -> Any:
        name = self.cleaned_data["owner"]
        if not name:
            return None
        model = get_user_model()
        user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
        if user is None:
            raise ValidationError(_("There is no user with this name."))
        return user

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if self.errors:
            return values
        chosen = {name: values[name] for name in self.option_names}
        try:
            self.draft = ScheduleDraft(
                {**self._values, **chosen, "task": self._task, "args": self.args, "kwargs": self.kwargs}
            )
        except (TypeError, ValueError) as exc:
            self.add_error(None, str(exc))
        except RecursionError:  # the limit of stored arguments is lower than that of the field
            self.add_error(None, _("A value is nested too deeply."))
        return values
