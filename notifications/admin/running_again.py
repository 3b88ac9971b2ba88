"""Running a job again with other arguments: a form of its task's parameters, which enqueues a new job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from inspect import Parameter
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from notifications import serializers
from notifications.admin.mixins import ModelAdminBase, page_context
from notifications.compat import InvalidTask, normalize_json, signature_of
from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE
from notifications.exceptions import TooManyJobs
from notifications.extension import hooks
from notifications.jobs.declaring.signatures import called_signature
from notifications.jobs.declaring.tasks import stores_jobs, with_options
from notifications.jobs.redaction import is_secret, redact
from notifications.jobs.results import find_task, policy_at
from notifications.jobs.transitions.batch_completion import is_batch
from notifications.models import Job
from notifications.problems import log_database_error

#: What the idempotency keys of jobs begin with that were run again; the id of the earlier job follows.
KEY_PREFIX = "again:"
#: Fields of the form are named so: a parameter may have the name of another field, or of an attribute of a form.
FIELD_PREFIX = "argument."
#: Characters of a value that is shown on one line.
MAX_LINE_CHARS = 60
#: The value of a field that was left empty. It is false, as an empty list.
NOT_GIVEN: Any = type("NotGiven", (), {"__bool__": lambda self: False})()
#: Kinds of parameters whose arguments are given by their places, and by their names.
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_PLACES = (*_BY_PLACE, Parameter.VAR_POSITIONAL)
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
        except (ValueError, RecursionError) as exc:
            error = _('This is not JSON: %(error)s. Text stands in double quotes, as in "Ada".')
            raise ValidationError(error % {"error": exc}) from exc
        try:
            normalize_json(found)  # as enqueue() does, whose limit is lower than that of json.loads()
        except RecursionError as exc:
            raise ValidationError(_("A value is nested too deeply.")) from exc
        if self._kind is list and not isinstance(found, list):
            raise ValidationError(_("This must be a list, as in [1, 2]."))
        if self._kind is dict and not isinstance(found, dict):
            raise ValidationError(_('This must be an object, as in {"size": 3}.'))
        return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


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
        """Return the parameters of a wrapper whose values may be secrets by the names of the function below it.

        Which value that function gets under which name is not known.
        """
        by_place = {each.name for each in self.parameters if each.kind in _PLACES}
        below = list(signature_of(task.func).parameters.values())[int(task.takes_context) :]
        others = {each.name for each in below if each.kind in _PLACES} - by_place
        return by_place if any(is_secret(name, self._redacted) for name in others) else set()

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


class CannotRunAgain(Exception):
    """A job cannot be run again here. The text, in the active language, says why."""


def find_origin(job: Job) -> UUID | None:
    """Return the id of the job that a job runs again with other arguments, None if it runs none again."""
    if job.idempotency_key.startswith(KEY_PREFIX):
        with suppress(ValueError):
            return UUID(job.idempotency_key.removeprefix(KEY_PREFIX)[:32])
    return None


class RunAgainMixin(ModelAdminBase):
    """Adds the form to an admin of jobs."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.run_again_view)
        return [path("<path:object_id>/run/", view, name="notifications_job_run"), *super().get_urls()]

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run jobs with any arguments, and view those that a job had."""
        return request.user.has_perms(["notifications.add_job", "notifications.view_job_arguments"])

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and self.has_run_permission(request) and _can_have_form(job):
            context["run_url"] = reverse(
                f"{self.admin_site.name}:notifications_job_run", args=[quote(job.pk)]
            )
        return super().render_change_form(request, context, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        if obj is not None and find_origin(obj):
            name, options = fieldsets[0]
            fieldsets[0] = (name, options | {"fields": (*options["fields"], "origin")})
        return fieldsets

    @admin.display(description=_lazy("run again from"))
    def origin(self, job: Job) -> str:
        """Return a link to the job that was run again with other arguments."""
        id = find_origin(job)
        url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(id)])
        return format_html('<a href="{}">{}</a>', url, id)

    def run_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form, or enqueue a new job with the owner, the title and the link of an earlier one."""
        if not self.has_view_permission(request) or not self.has_run_permission(request):
            raise PermissionDenied
        job = self.get_object(request, unquote(object_id))
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        back_url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(job.pk)])
        try:
            if not _can_have_form(job):
                raise CannotRunAgain(
                    _("Only jobs of tasks of the project are run again with other arguments.")
                )
            task = _find_task(job)
        except CannotRunAgain as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return HttpResponseRedirect(back_url)
        form = ArgumentsForm(task, job, data=request.POST if request.method == "POST" else None)
        if form.is_valid() and (response := self._run_again(request, form, task, job)):
            return response
        context = {
            **page_context(self, request),
            "title": _("Run “%(job)s” again with other arguments") % {"job": job.title},
            "form": form,
            "job": job,
            "back_url": back_url,
            "owner": job.user,
        }
        return TemplateResponse(request, "admin/notifications/job/run_again.html", context)

    def _run_again(
        self, request: HttpRequest, form: ArgumentsForm, task: Any, job: Job
    ) -> HttpResponse | None:
        try:
            # Job.language is that of its owner, and the one of this page that of staff.
            with translation.override(job.language or None):
                id = _enqueue(task, job, form.args, form.kwargs, form.cleaned_data["token"])
        except UNAVAILABLE as exc:
            log_database_error(exc)
            form.add_error(None, _("The database is unavailable. Nothing was changed. Try again."))
            return None
        except (TypeError, ValueError, InvalidTask, ImproperlyConfigured, TooManyJobs) as exc:
            form.add_error(None, str(exc))
            return None
        except RecursionError:  # more calls surround enqueue() than the field that checks this
            form.add_error(None, _("A value is nested too deeply."))
            return None
        new = Job.objects.using(database()).get(pk=id)
        self.log_addition(request, new, f"Run again with other arguments, as {job.pk} before.")
        url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(id)])
        text = format_html(
            _('A new job runs with these arguments, as <a href="{}">{}</a> before.'), url, new.title
        )
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(url)


def _can_have_form(job: Job) -> bool:
    return (
        job.executor != Job.Executor.OBSERVED and job.task_path not in hooks.own_tasks and not is_batch(job)
    )


def _find_task(job: Job) -> Any:
    """Return the task of a job with a signature. Raises ``CannotRunAgain``, also if the job's backend is not usable."""
    if not stores_jobs(job.backend):  # One of another kind may execute the task in the request.
        error = _(
            "In this process the backend of this job, %(backend)s, stores no jobs of this app, "
            "so it cannot be run again here."
        )
        raise CannotRunAgain(error % {"backend": job.backend})
    try:
        task = find_task(job.task_path)
        signature_of(task.func)
    except (ImportError, TypeError, ValueError) as exc:
        error = _(
            "This process cannot import the task of this job, so it cannot be run again here: %(error)s"
        )
        raise CannotRunAgain(error % {"error": exc}) from exc
    return task


def _enqueue(task: Any, job: Job, args: list[Any], kwargs: Mapping[str, Any], token: str) -> UUID:
    """Enqueue a job as ``job`` with these arguments, once for a form that is sent twice. Returns its id."""
    sent = sha256(json.dumps([token, args, kwargs], sort_keys=True).encode()).hexdigest()
    key = f"{KEY_PREFIX}{job.pk.hex}:{sent}"
    again = with_options(task, owner=job.user_id, title=job.title, url=job.url, key=key)
    # The task may be declared for another backend than the one that the job was enqueued with.
    again = again.using(backend=job.backend, queue_name=job.queue_name, priority=job.priority)
    return UUID(again.enqueue(*args, **kwargs).id)
