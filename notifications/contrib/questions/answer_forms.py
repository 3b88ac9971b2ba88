"""Answers by a Django form of the project, named by its import path.

The form is loaded where it is shown and where an answer is checked: a deploy may have removed it since the question was
asked. What the project's form does runs outside of the transaction that stores the answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, QuerySet
from django.forms import BaseForm
from django.utils.datastructures import MultiValueDict
from django.utils.dateparse import parse_date, parse_datetime, parse_time
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from notifications import validators

logger = logging.getLogger("notifications.jobs")

#: Bytes of JSON of an answer, and of the first values of a form.
MAX_ANSWER_BYTES = 64 * 1024
#: Fields whose values JSON has as text.
TYPED_FIELDS: tuple[tuple[Any, Callable[[str], Any]], ...] = (
    ((forms.DateTimeField, forms.SplitDateTimeField), parse_datetime),
    (forms.DateField, parse_date),
    (forms.TimeField, parse_time),
    (forms.DecimalField, Decimal),
)


class FormUnavailable(RuntimeError):
    """The form of a question cannot be loaded or has raised an error, which is logged."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            gettext("The form of this question has failed. The question stays open, and the log says why.")
        )


class WrongFields(ValidationError):
    """An answer that the form has refused. ``form`` is bound, with its errors."""

    def __init__(self, form: BaseForm) -> None:
        self.form = form
        super().__init__(form.errors.as_data())


def validate_form(value: Any) -> str:
    """Return the import path of a form, given by that path or as its class.

    Raises TypeError or ValueError for what is no form, cannot be made without arguments, or takes files.
    """
    path = f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else value
    path = validators.text("form", path, validators.MAX_TITLE_LENGTH, required=True)
    try:
        found = import_string(path)
    except ImportError as exc:
        raise ValueError(f"form is {path!r}, which cannot be imported: {exc}") from exc
    if not (isinstance(found, type) and issubclass(found, BaseForm)):
        raise TypeError(f"form is {path!r}, which is no subclass of django.forms.Form.")
    if found().is_multipart():
        raise ValueError(f"The form {path!r} takes files, which an answer cannot hold. Remove these fields.")
    return path


def validate_initial(path: str, initial: Any) -> dict[str, Any]:
    """Return the first values of the fields of a form as JSON has them.

    Raises TypeError or ValueError, and what the form raises when it is rendered with them.
    """
    if not isinstance(initial, Mapping):
        raise TypeError(f"initial must be a dict of values by field, not {type(initial).__name__}.")
    form_class = import_string(path)
    if unknown := [name for name in initial if name not in form_class().fields]:
        raise ValueError(f"initial has {unknown[0]!r}, which is no field of the form {path!r}.")
    stored: dict[str, Any] = json.loads(json.dumps(dict(initial), cls=_AnswerEncoder))
    validators.json_text("initial", stored, MAX_ANSWER_BYTES)
    _rendered(_with_initial(form_class, stored))
    return stored


def unbound_form(path: str, initial: Mapping[str, Any]) -> BaseForm:
    """Return a form with its first values, which was rendered once: its choices are read then.

    Raises ``FormUnavailable``.
    """
    return _call(path, lambda form: _rendered(_with_initial(form, initial)))


def _with_initial(form_class: type[BaseForm], initial: Mapping[str, Any]) -> BaseForm:
    # Not an argument: the form of a project may take none. Widgets format dates and numbers by their types.
    form = form_class()
    form.initial = {
        **form.initial,
        **{name: _restore(form.fields.get(name), value) for name, value in initial.items()},
    }
    return form


def _restore(field: Any, value: Any) -> Any:
    """Return a value of JSON as the type that a field expects, so that its widget formats it."""
    if isinstance(value, str):
        for field_classes, parse in TYPED_FIELDS:
            if isinstance(field, field_classes):
                return parse(value) or value
    return value


def clean(path: str, data: Mapping[str, Any]) -> str:
    """Return what a form has made of an answer, as JSON: model instances as keys, dates and decimals as text.

    ``data``
        The fields of a POST, or of a JSON object.

    Raises ``WrongFields``, ``FormUnavailable``, and another ``ValidationError`` for what cannot be stored.
    """

    def run(form_class: type[BaseForm]) -> tuple[BaseForm, Any]:
        if isinstance(data, MultiValueDict):
            form = _validated(form_class(data))  # type: ignore[arg-type]
        else:
            try:
                form = _validated(form_class(dict(data)))
            except (TypeError, ValueError, AttributeError):
                # Fields of Django fail at types that no browser sends, as a date does at a number.
                form = _validated(form_class({name: _as_posted(value) for name, value in data.items()}))
        if not form.is_valid():
            return _rendered(form), None
        return form, json.loads(json.dumps(form.cleaned_data, cls=_AnswerEncoder))

    form, cleaned = _call(path, run)
    if form.errors:
        raise WrongFields(form)
    try:
        return validators.json_text("The answer", cleaned, MAX_ANSWER_BYTES)
    except ValueError as exc:
        raise ValidationError(str(exc)) from exc


def _validated(form: BaseForm) -> BaseForm:
    form.full_clean()
    return form


def _rendered(form: BaseForm) -> BaseForm:
    form.label_suffix = ""  # labels are on lines of their own
    form.as_div()
    return form


def _as_posted(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else str(value)


class _AnswerEncoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        if isinstance(o, Model):
            return o.pk
        if isinstance(o, QuerySet):
            return list(o.values_list("pk", flat=True))
        return super().default(o)


def _call(path: str, function: Callable[[Any], Any]) -> Any:
    """Call a function with the class of a form. Raises ``FormUnavailable`` for all that goes wrong."""
    try:
        return function(import_string(path))
    except Exception as exc:
        logger.exception("The form of a question failed: %s", path)
        raise FormUnavailable(path) from exc
