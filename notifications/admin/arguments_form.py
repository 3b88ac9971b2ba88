"""The form of the arguments of a task, one field for each parameter of its signature."""

from __future__ import annotations

import json
from inspect import Parameter
from typing import Any
from uuid import uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from notifications import serializers
from notifications.jobs.declaring.signatures import PLACES, called_signature, hides_below
from notifications.jobs.redaction import redact
from notifications.jobs.results import policy_at
from notifications.models import Job

#: Fields of the form are named so: a parameter may have the name of another field, or of an attribute of a form.
FIELD_PREFIX = "argument."
#: Characters of a value that is shown on one line.
MAX_LINE_CHARS = 60
#: The value of a field that was left empty. It is false, as an empty list.
NOT_GIVEN: Any = type("NotGiven", (), {"__bool__": lambda self: False})()
#: Kinds of parameters whose arguments are given by their places, and by their names.
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class JSONField(forms.CharField):
    """A value as JSON. An empty field is ``NOT_GIVEN``; that of Django takes an empty list for none."""

    widget = forms.Textarea(attrs={"class": "vLargeTextField", "spellcheck": "false"})

    def __init__(self, *, kind: type | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kind = kind

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return NOT_GIVEN
        try:
            found = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as exc:
            error = _(
                'Line %(line)d, column %(column)d: this is not JSON. Put text in double quotes, as in "Ada".'
            )
            raise ValidationError(error % {"line": exc.lineno, "column": exc.colno}) from exc
        except ValueError as exc:  # Python converts no integer of over 4,300 digits
            raise ValidationError(_("A number is too long.")) from exc
        except RecursionError as exc:
            raise ValidationError(_("A value is nested too deeply.")) from exc
        if self._kind is list and not isinstance(found, list):
            raise ValidationError(_("This must be a list, as in [1, 2]."))
        if self._kind is dict and not isinstance(found, dict):
            raise ValidationError(_('This must be an object, as in {"size": 3}.'))
        return found


def _refuse_constant(name: str) -> None:
    raise ValidationError(_("JSON has no %(name)s. Write null or a number.") % {"name": name})


class ArgumentsForm(forms.Form):
    """The parameters of a task, with the arguments of an earlier job, without secrets.

    ``left_out``
        The names of arguments, or their places, that the task does not take any more.
    """

    def __init__(self, task: Any, job: Job, *, data: Any = None) -> None:
        args, kwargs = _read_arguments(job)
        signature, is_below_wrapper = called_signature(task, args, kwargs)
        self.parameters = list(signature.parameters.values())
        #: How many arguments stay at their places: a wrapper that takes any may read them there.
        self._kept_places = len(args) if is_below_wrapper else 0
        self._redacted = frozenset(policy_at(job.task_path).redact)
        #: The values of fields that are not shown, which an empty field keeps.
        self._hidden: dict[str, Any] = {}
        given, self.left_out = _assign(self.parameters, args, kwargs)
        self._unnamed = self._find_unnamed(task)
        super().__init__(data, auto_id="id_%s", initial={"token": uuid4().hex})
        self.fields["token"] = forms.CharField(widget=forms.HiddenInput, max_length=32)
        for parameter in self.parameters:
            self._add_field(parameter, given.get(parameter.name, NOT_GIVEN))

    def _find_unnamed(self, task: Any) -> set[str]:
        """Return the parameters of a wrapper whose values may be secrets by the names of the function below it."""
        if not hides_below(task, self.parameters, self._redacted):
            return set()
        return {each.name for each in self.parameters if each.kind in PLACES}

    def _add_field(self, parameter: Parameter, value: Any) -> None:
        name, label, initial, help_text = parameter.name, parameter.name, "", ""
        kind: type | None = None
        has_default = parameter.default is not Parameter.empty
        if has_default and redact(name, parameter.default, self._redacted) == parameter.default:
            help_text = _("By default %(value)s.") % {"value": _describe(parameter.default)}
        if parameter.kind is Parameter.VAR_POSITIONAL:
            label, kind, help_text = f"*{name}", list, _("More arguments, as a list.")
        elif parameter.kind is Parameter.VAR_KEYWORD:
            label, kind, help_text = f"**{name}", dict, _("More arguments by name, as an object.")
        if value is not NOT_GIVEN:
            if name not in self._unnamed and redact(name, value, self._redacted) == value:
                initial = _describe(value)
            else:
                self._hidden[name] = value
                help_text = _("What it was is hidden. Leave it empty to keep that.")
        field = JSONField(
            label=label,
            initial=initial,
            help_text=help_text,
            required=not (has_default or kind or name in self._hidden),
            kind=kind,
        )
        field.widget.attrs["rows"] = initial.count("\n") + 1
        self.fields[FIELD_PREFIX + name] = field

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            self._set_arguments()
        return cleaned

    def _set_arguments(self) -> None:
        """Set ``args`` and ``kwargs``, with which the task is enqueued."""
        values = {each.name: self._value(each.name) for each in self.parameters}
        by_kind = {each.kind: each.name for each in self.parameters}
        more = values.get(by_kind.get(Parameter.VAR_POSITIONAL, ""), NOT_GIVEN)
        is_gap = False
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        for index, parameter in enumerate(self.parameters):
            name, kind, value = parameter.name, parameter.kind, values[parameter.name]
            is_kept = index == len(self.args) < self._kept_places
            if kind is Parameter.VAR_POSITIONAL:
                self.args += [] if value is NOT_GIVEN else value
            elif kind is Parameter.VAR_KEYWORD:
                self._add_others(name, {} if value is NOT_GIVEN else value)
            elif kind is Parameter.POSITIONAL_ONLY or (kind in _BY_PLACE and (more or is_kept)):
                if value is not NOT_GIVEN and is_gap:
                    error = _(
                        "Fill in the fields before it too: the task takes these arguments by their places."
                    )
                    self.add_error(FIELD_PREFIX + name, error)
                is_gap = is_gap or value is NOT_GIVEN
                self.args += [] if is_gap else [value]
            elif value is not NOT_GIVEN:
                self.kwargs[name] = value
        if more and is_gap:
            error = _("Fill in the fields before it too: the task takes these arguments by their places.")
            self.add_error(FIELD_PREFIX + by_kind[Parameter.VAR_POSITIONAL], error)

    def _add_others(self, name: str, others: dict[str, Any]) -> None:
        own = {each.name for each in self.parameters if each.kind in _BY_NAME}
        if twice := sorted(own.intersection(others)):
            error = _("These have fields of their own: %(names)s.") % {"names": ", ".join(twice)}
            self.add_error(FIELD_PREFIX + name, error)
        self.kwargs |= others

    def _value(self, name: str) -> Any:
        value = self.cleaned_data[FIELD_PREFIX + name]
        return self._hidden.get(name, NOT_GIVEN) if value is NOT_GIVEN else value


def _assign(
    parameters: list[Parameter], args: list[Any], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return arguments by the names of parameters, and the names or places of those that fit none."""
    by_place = [each.name for each in parameters if each.kind in _BY_PLACE]
    by_name = {each.name for each in parameters if each.kind in _BY_NAME}
    given: dict[str, Any] = dict(zip(by_place, args, strict=False))
    given |= {name: value for name, value in kwargs.items() if name in by_name}
    rest = args[len(by_place) :]
    others = {name: value for name, value in kwargs.items() if name not in by_name}
    for each in parameters:
        if each.kind is Parameter.VAR_POSITIONAL and rest:
            given[each.name], rest = rest, []
        elif each.kind is Parameter.VAR_KEYWORD and others:
            given[each.name], others = others, {}
    places = (str(place) for place in range(len(args) - len(rest) + 1, len(args) + 1))
    return given, [*places, *others]


def _read_arguments(job: Job) -> tuple[list[Any], dict[str, Any]]:
    """Return the stored arguments of a job, none if they are damaged."""
    try:
        args, kwargs = json.loads(job.args), serializers.decode_object(job.kwargs)
    except (ValueError, TypeError, RecursionError):
        return [], {}
    return (args, kwargs) if isinstance(args, list) else ([], {})


def _describe(value: Any) -> str:
    """Return a value as JSON, a long one on several lines; what is no JSON as Python writes it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= MAX_LINE_CHARS else json.dumps(value, ensure_ascii=False, indent=2)
    except (TypeError, ValueError):
        return repr(value)
