"""The form in which staff write a notification and choose its recipients."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import groupby
from typing import Any

from django import forms
from django.contrib.admin import widgets
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import times, validators
from notifications.contrib.broadcasts import audiences
from notifications.contrib.broadcasts.audiences import Audience, Kind, group_model, offered_languages
from notifications.contrib.broadcasts.models import Broadcast
from notifications.models import Notification

#: Groups or permissions that can be chosen from, and users that can be named.
MAX_CHOICES, MAX_NAMES = 5_000, 1_000
#: Groups that are shown as check boxes; more are a list.
MAX_CHECK_BOXES = 30
#: Unknown names that a message has.
MAX_NAMES_SHOWN = 10

#: The field that belongs to each kind of audience.
FIELD_OF_KIND: dict[str, str] = {
    str(Kind.USERS): "users",
    str(Kind.GROUPS): "groups",
    str(Kind.PERMISSION): "permission",
}


class TextField(forms.CharField):
    """A text whose line breaks are one character each, as they are stored and counted."""

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return value.replace("\r\n", "\n").replace("\r", "\n") if value else value


class ComposerForm(forms.Form):
    """The message and its recipients. Once valid it has ``audience``, ``recipients`` and ``inactive``.

    ``recipients`` is how many users there are, ``max_counted`` at most, and ``has_more_recipients`` whether there are
    more. ``inactive`` is how many of the named users are left out.

    ``user``
        The user who writes it.
    ``max_counted``
        Users that are counted at most; 0 leaves the audience out, which a test to oneself does not have.
    """

    title = TextField(
        label=_("Title"),
        max_length=validators.MAX_TITLE_LENGTH,
        widget=widgets.AdminTextInputWidget(attrs={"autofocus": True, "dir": "auto"}),
    )
    body = TextField(
        label=_("Body"),
        max_length=validators.MAX_BODY_LENGTH,
        required=False,
        widget=widgets.AdminTextareaWidget(attrs={"rows": 5, "dir": "auto"}),
        help_text=_("Plain text of at most 2,000 characters."),
    )
    url = TextField(
        label=_("Link"),
        max_length=validators.MAX_URL_LENGTH,
        required=False,
        widget=widgets.AdminTextInputWidget(attrs={"dir": "ltr"}),
        help_text=_("Where a click leads: a path such as /news/, or an address with https://."),
    )
    level = forms.ChoiceField(
        label=_("Level"), choices=Notification.Level.choices, initial=Notification.Level.INFO
    )
    category = TextField(
        label=_("Category"),
        max_length=validators.MAX_NAME_LENGTH,
        required=False,
        widget=widgets.AdminTextInputWidget(),
        help_text=_("To filter notifications by."),
    )
    send_at = forms.DateTimeField(
        label=_("Send at"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    audience_kind = forms.ChoiceField(
        label=_("To"),
        widget=widgets.AdminRadioSelect(),
        error_messages={"required": _("Choose who gets it.")},
        help_text=_("Users who are not active are left out."),
    )
    users = TextField(
        label=_("Names of users"),
        required=False,
        widget=widgets.AdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
        help_text=_("One on each line, or with commas between them."),
    )
    groups = forms.MultipleChoiceField(label=_("Groups"), required=False)
    permission = forms.ChoiceField(
        label=_("Permission"),
        required=False,
        help_text=_("Users who have it themselves or by a group, and superusers."),
    )

    #: Signed for the user who has got it in an address.
    affected = TextField(label="", required=False, widget=forms.HiddenInput())

    def __init__(
        self, *args: Any, user: Any, max_counted: int = audiences.MAX_USERS_COUNTED, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.max_counted = max_counted
        self.audience: Audience | None = None
        self.languages = offered_languages()
        for code, _name in self.languages:
            self.fields.update(_text_fields(code))
        zone = timezone.get_current_timezone_name()
        help_text = _("Leave it empty to send at once. Times are in the time zone %(zone)s.")
        self.fields["send_at"].help_text = help_text % {"zone": zone}
        self.fields["audience_kind"].required = bool(max_counted)
        kinds = audiences.available_kinds()
        self.affected_users = audiences.read_signed_audience(self["affected"].value() or "", user)
        if found := audiences.find_audience(self.affected_users):
            affected: Any = Kind.AFFECTED
            kinds.insert(0, affected.value)
            self.label_of_affected = f"{affected.label}: {found.describe()}"
        fields: dict[str, Any] = self.fields
        fields["audience_kind"].choices = [
            (kind, self.label_of_affected if kind == Kind.AFFECTED else Kind(kind).label) for kind in kinds
        ]
        if Kind.GROUPS in kinds:
            groups = group_model()._default_manager.order_by("name", "pk")[:MAX_CHOICES]
            choices = [(str(group.pk), str(group)) for group in groups]
            few = len(choices) <= MAX_CHECK_BOXES
            fields["groups"].widget = forms.CheckboxSelectMultiple() if few else forms.SelectMultiple()
            fields["groups"].choices = choices
            if not choices:
                fields["groups"].help_text = _("There are no groups.")
        else:
            del self.fields["groups"]
        if Kind.PERMISSION in kinds:
            fields["permission"].choices = [("", "---------"), *_permission_choices()]
        else:
            del self.fields["permission"]

    def clean_url(self) -> str:
        try:
            return validators.link(str(_("Link")), self.cleaned_data["url"])
        except ValueError as exc:
            raise ValidationError(str(exc)) from exc

    def clean_send_at(self) -> datetime | None:
        moment = self.cleaned_data["send_at"]
        if moment is None or not self.max_counted:  # A test is sent at once.
            return None
        try:
            moment = times.as_utc(moment)
        except OverflowError as exc:  # at the ends of the calendar
            raise ValidationError(self.fields["send_at"].error_messages["invalid"]) from exc
        if moment <= times.now():
            raise ValidationError(_("This time is over. Choose a later one, or leave it empty."))
        return moment

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        for code, _name in self.languages:
            if values.get(f"body_{code}") and not values.get(f"title_{code}"):
                self.add_error(f"title_{code}", _("Write a title in this language too."))
        if not self.max_counted:
            return values
        kind = values.get("audience_kind", "")
        for field in FIELD_OF_KIND.values():
            if field in self.errors and field != FIELD_OF_KIND.get(kind):
                del self.errors[field]  # it belongs to another audience than the chosen one
        if not kind:
            return values
        field = FIELD_OF_KIND.get(kind, "audience_kind")
        try:
            self.audience = self._read_audience(kind, values)
        except ValidationError as exc:
            self.add_error(field, exc)
            return values
        if self.audience is not None:
            found = self.audience.count(self.max_counted + 1)
            self.recipients, self.has_more_recipients = min(found, self.max_counted), found > self.max_counted
            if not self.recipients:
                self.add_error(field, _("No active user is among the recipients. Choose others."))
        return values

    def _read_audience(self, kind: str, values: dict[str, Any]) -> Audience | None:
        """Return the audience, None if its field has an error already. Raises ValidationError."""
        self.inactive = 0
        if kind == Kind.USERS:
            keys, self.inactive = _find_users(values.get("users", ""))
            return Audience(kind=kind, values=tuple(map(str, keys)))
        if kind == Kind.GROUPS:
            if "groups" in self.errors:
                return None
            if not values["groups"]:
                raise ValidationError(_("Choose at least one group."))
            return Audience(kind=kind, values=tuple(values["groups"]))
        if kind == Kind.PERMISSION:
            if "permission" in self.errors:
                return None
            if not values["permission"]:
                raise ValidationError(_("Choose a permission."))
            return Audience(kind=kind, values=(values["permission"],))
        if kind == Kind.AFFECTED:
            if values.get("send_at"):
                self.add_error(
                    "send_at",
                    _("A message to those affected by a failure is sent at once. Leave it empty."),
                )
            return Audience(kind=kind, values=(self.affected_users,))
        return Audience(kind=kind)

    @property
    def translations(self) -> dict[str, dict[str, str]]:
        """Title and body by the code of each language that has a title."""
        values = self.cleaned_data
        return {
            code: {"title": values[f"title_{code}"], "body": values[f"body_{code}"]}
            for code, _name in self.languages
            if values[f"title_{code}"]
        }

    def fill(self, row: Broadcast | Notification) -> None:
        """Set the message on an unsaved row."""
        for name in ("title", "body", "url", "level", "category"):
            setattr(row, name, self.cleaned_data[name])


def _text_fields(code: str) -> dict[str, forms.Field]:
    return {
        f"title_{code}": TextField(
            label=_("Title"),
            max_length=validators.MAX_TITLE_LENGTH,
            required=False,
            widget=widgets.AdminTextInputWidget(attrs={"lang": code, "dir": "auto"}),
        ),
        f"body_{code}": TextField(
            label=_("Body"),
            max_length=validators.MAX_BODY_LENGTH,
            required=False,
            widget=widgets.AdminTextareaWidget(attrs={"rows": 3, "lang": code, "dir": "auto"}),
        ),
    }


def _find_users(text: str) -> tuple[list[Any], int]:
    """Return the keys of the named users, and how many of them are not active. Raises ValidationError."""
    names = list(dict.fromkeys(name for part in re.split(r"[\n,]", text) if (name := part.strip())))
    if not names:
        raise ValidationError(_("Write the name of at least one user."))
    if len(names) > MAX_NAMES:
        raise ValidationError(
            _("These are %(count)d names. At most %(limit)d are allowed. Use a group for more users."),
            params={"count": len(names), "limit": MAX_NAMES},
        )
    model = get_user_model()
    users = model._default_manager.filter(**{f"{model.USERNAME_FIELD}__in": names})
    found = {user.get_username(): user for user in users}
    if unknown := [name for name in names if name not in found]:
        shown = ", ".join(unknown[:MAX_NAMES_SHOWN])
        if len(unknown) > MAX_NAMES_SHOWN:
            shown += _(" and %(count)d more") % {"count": len(unknown) - MAX_NAMES_SHOWN}
        raise ValidationError(
            ngettext(
                "There is no user with this name: %(names)s. Check the spelling.",
                "There are no users with these names: %(names)s. Check the spelling.",
                len(unknown),
            ),
            params={"names": shown},
        )
    inactive = sum(not user.is_active for user in found.values())
    return [user.pk for user in found.values()], inactive


def _permission_choices() -> list[Any]:
    """Return the permissions by app, with names such as ``shop.change_order`` as values."""
    rows = Permission.objects.order_by("content_type__app_label", "content_type__model", "codename")
    columns = rows.values_list("content_type__app_label", "codename", "name")[:MAX_CHOICES]
    return [
        (app, [(f"{app}.{codename}", name) for _app, codename, name in group])
        for app, group in groupby(columns, key=lambda row: row[0])
    ]
