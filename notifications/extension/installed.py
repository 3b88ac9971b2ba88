"""The installed extensions and the hooks that they define."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from inspect import isfunction
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string, module_has_submodule

from notifications import conf, times
from notifications.extension import shipped
from notifications.extension.app import Extension
from notifications.extension.calls import Calls, call_of, leave_out_of_pages
from notifications.extension.channels import MAX_NAME_LENGTH, BrokenChannel, Channel, DeliveryStep, read_steps
from notifications.extension.dimensions import (
    UNKNOWN_KIND,
    Event,
    Fact,
    JobSection,
    OwnTask,
    Pause,
    RecordedTransaction,
    WaitKind,
    WorkerPart,
)
from notifications.extension.dispatch import Dispatch
from notifications.extension.findings import Check
from notifications.extension.pages import PageHooks
from notifications.extension.tables import KINDS, TableHooks

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job, Notification

logger = logging.getLogger("notifications")


#: Attributes of extensions that are mappings, of which the core has one of all.
_MAPPINGS = ("subcommands", "channels", "tasks")
#: Hooks: the methods of the class, of which the core has those that are defined, in the order of the extensions.
_HOOKS = [
    name
    for owner in (Extension, PageHooks, TableHooks)
    for name in vars(owner)
    if isfunction(getattr(owner, name))
]
#: Those whose results go to other hooks of their extension, by its label.
_BY_LABEL = {
    "worker_part",
    "after_commit",
    "accept",
    "keep_for_later",
}


#: Names of which each is that of one extension.
_NAMES: dict[str, Callable[[Extension], Iterable[str]]] = {
    "key of NOTIFICATIONS": lambda each: each.settings,
    "kind of wait": lambda each: [kind.kind for kind in each.wait_kinds],
    "channel": lambda each: each.channels,
    "subcommand": lambda each: each.subcommands,
    "section of jobs": lambda each: [section.name for section in each.job_sections],
}


class Hooks:
    """What installed extensions declare and define: an attribute for each of the class ``Extension``."""

    def __init__(self, extensions: Iterable[Extension] = ()) -> None:
        self.extensions = list(extensions)
        self._modules: dict[str, dict[str, ModuleType]] = {}
        self._checks: list[Check] | None = None
        for name in _MAPPINGS:
            setattr(
                self, name, {key: value for e in self.extensions for key, value in getattr(e, name).items()}
            )
        self.own_tasks = {path: task for path, task in self.tasks.items() if isinstance(task, OwnTask)}
        self.policies = {path: task for path, task in self.tasks.items() if not isinstance(task, OwnTask)}
        #: The label of the model and the name of each column that has something of a kind.
        self.tables: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for path, kind in ((path, kind) for e in self.extensions for path, kind in e.tables.items()):
            model, _, column = path.rpartition(".")
            self.tables[kind].append((model, column))
        for name in _HOOKS:
            default = getattr(Extension, name)
            defined = {
                e.label: call_of(getattr(e, name), e.label, name)
                for e in self.extensions
                if getattr(type(e), name) is not default
            }
            setattr(self, name, defined if name in _BY_LABEL else list(defined.values()))
        # What is made once, by kind.
        found: dict[str, Any] = vars(self)
        self.job_sections = [
            Calls(part, JobSection, e.label) for e in self.extensions for part in e.job_sections
        ]
        kinds = [(kind, e.label) for e in self.extensions for kind in e.wait_kinds]
        self.wait_kinds: dict[str, Any] = {
            Pause.kind: Pause(),
            **{kind.kind: Calls(kind, WaitKind, label) for kind, label in kinds},
        }
        self.dispatch: Dispatch = next((hook() for hook in found["dispatch"]), Dispatch())

    def find_modules(self, name: str) -> dict[str, ModuleType]:
        """Import the module of this name of each installed extension that has one, and return them by its label."""
        if name not in self._modules:
            self._modules[name] = {
                each.label: import_module(f"{each.name}.{name}")
                for each in self.extensions
                if module_has_submodule(each.module, name)
            }
        return self._modules[name]

    def functions_of(self, module: str, name: str) -> list[Any]:
        """Return the functions of this name in such modules, each of which is called as a hook is."""
        found = [(label, getattr(each, name, None)) for label, each in self.find_modules(module).items()]
        return [call_of(function, label, name) for label, function in found if function]

    def read_checks(self) -> list[Check]:
        """Return the checks of the extensions, which are made when the first one is needed."""
        if self._checks is None:
            self._checks = [check for hook in self.checks for check in hook()]
        return self._checks

    def find_channel(self, name: str) -> Channel:
        """Return a channel; one that has no addresses if its extension is not installed any more.

        For one whose class cannot be imported, or is none, a ``BrokenChannel``: neither pages nor other channels fail.
        """
        path = self.channels.get(name)
        return leave_out_of_pages(Channel(name)) if path is None else _make_channel(name, path)

    def read_delivery_steps(self, value: Any) -> tuple[DeliveryStep, ...]:
        """Return the steps of a value like ``[{"email": 600}]``, by installed channels. Raises ``ValueError``."""
        return read_steps(value, self.channels)

    def find_wait_kind(self, kind: str) -> WaitKind:
        """Return a kind of waits; one that does nothing if its extension is not installed any more."""
        return self.wait_kinds.get(kind, UNKNOWN_KIND)

    def read_facts(self, row: Notification, reader: Any, place: str) -> list[Fact]:
        """Return what extensions say of a notification to its user. See ``Extension.parts_of()``."""
        parts = (part for hook in self.parts_of for part in hook([row], reader, place).get(row.pk, ()))
        return [part for part in parts if isinstance(part, Fact)]

    def call_after_commit(self, tx: RecordedTransaction) -> None:
        """Let extensions use what they have kept in a transaction that is committed."""
        for label, kept in tx.kept.items():
            if hook := self.after_commit.get(label):
                hook(kept)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


hooks = Hooks()


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return events in the order of their times; those without a time come last."""
    return sorted(events, key=lambda event: (event.at is None, event.at and times.as_utc(event.at)))


def read_events(subject: Job | Notification, reader: Any = None, *, viewer: Any = None) -> list[Event]:
    """Return what extensions know to have happened to a job or a notification. See ``Extension.events_of()``.

    ``viewer``
        The user (key) of the staff who reads all of it.
    """
    viewer = viewer if reader is None else reader
    events = (event for hook in hooks.events_of for event in hook(subject, reader))
    return in_order(
        event._replace(text=event.own_text) if event.own_text and event.by == viewer is not None else event
        for event in events
    )


@cache
def _make_channel(name: str, path: str) -> Channel:
    try:
        channel = import_string(path)(name)
        if not isinstance(channel, Channel):
            raise TypeError("It is no notifications.extension.Channel.")
        if channel.has_digests and channel.has_many_addresses:
            raise TypeError("has_digests and has_many_addresses exclude each other.")
        for method in ("addresses", "send"):
            if getattr(type(channel), method) is getattr(Channel, method):
                raise TypeError(f"It has no method {method}().")
    except Exception as exc:
        if not apps.ready:  # it can be imported later
            raise
        logger.exception("Could not make the channel %s from %s", name, path)
        text = f"The channel {name!r} cannot be made from {path}: {type(exc).__name__}: {exc}"
        channel = BrokenChannel(name, text)
    return leave_out_of_pages(channel)


def make_worker_parts(state: Any) -> dict[str, WorkerPart]:
    """Return what extensions do in a worker, by their labels. See ``Extension.worker_part()``."""
    return {label: make(state) for label, make in hooks.worker_part.items()}


def load() -> None:
    """Read the hooks and settings of the installed extensions. Called when the app is ready.

    Raises ``ImproperlyConfigured`` if the app is missing that delivers by channels, for the name of a channel, for what
    a column of tables has, and for a name that two extensions use.
    """
    _refuse_shared_names(extensions())
    hooks.__init__(extensions())  # type: ignore[misc]
    if not any("DELIVERY" in each.settings for each in hooks.extensions):
        for each in hooks.extensions:
            if each.channels:
                require(shipped.find_app_of_setting("DELIVERY"), by=each.name)
    for name in hooks.channels:
        if not name.isidentifier() or len(name) > MAX_NAME_LENGTH or name == "bell":
            text = f"{name!r} cannot be a channel. Its name is an identifier of at most {MAX_NAME_LENGTH} characters."
            raise ImproperlyConfigured(text)
    if wrong := {kind for kind in hooks.tables if kind not in KINDS and "." not in kind}:
        text = f"{wrong.pop()!r} cannot be what a column of tables has. It is one of {', '.join(KINDS)}, or a model."
        raise ImproperlyConfigured(text)
    conf.SETTINGS = conf.CORE_SETTINGS | {
        key: setting for each in hooks.extensions for key, setting in each.settings.items()
    }


def _refuse_shared_names(installed: Sequence[Extension]) -> None:
    """Raise ``ImproperlyConfigured`` for a name of which one extension would silently replace that of another."""
    core = {
        "key of NOTIFICATIONS": dict.fromkeys(conf.CORE_SETTINGS, "the app itself"),
        "kind of wait": {Pause.kind: "the app itself"},
    }
    for what, names_of in _NAMES.items():
        owners: dict[str, str] = dict(core.get(what, {}))
        for each in installed:
            for name in names_of(each):
                if name in owners:
                    raise ImproperlyConfigured(
                        f"The {what} {name!r} is that of {owners[name]} and of {each.name}. Rename one of them, or "
                        "remove one of the two apps from INSTALLED_APPS."
                    )
                owners[name] = each.name


def _load_again(*, setting: str, **kwargs: Any) -> None:
    if setting == "INSTALLED_APPS":  # Django has other configurations of apps now, or the former ones again.
        load()


setting_changed.connect(_load_again)


def extensions() -> list[Extension]:
    """Return the installed extensions, in the order of ``INSTALLED_APPS``."""
    return [config for config in apps.get_app_configs() if isinstance(config, Extension)]


def list_apps() -> list[AppConfig]:
    """Return the core's configuration and the installed extensions: the apps whose tables belong together."""
    return [apps.get_app_config("notifications"), *extensions()]


def require(name: str, *, by: str = "") -> None:
    """Raise ``ImproperlyConfigured`` if this app (its dotted path) is not installed, with the line to add.

    ``by``
        The app that requires it, which the message names.

    Modules of models in ``contrib`` call it before they declare one: Django would register the model for the label
    ``notifications``, because its module is below that app.
    """
    if not apps.is_installed(name):
        of = f", which {by} requires" if by else ""
        raise ImproperlyConfigured(
            f'{name} is not installed{of}. Add "{name}" to INSTALLED_APPS, and run manage.py migrate.'
        )


class ImportedHook:
    """See ``import_later()``."""

    def __init__(self, path: str, rows_with: str) -> None:
        self.path = path
        self.rows_with = rows_with
        self._relative_module, _, self._function = path.rpartition(".")
        self._package = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._package = owner.__module__.rpartition(".")[0]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        return self.find()(*args, **kwargs)

    def find(self) -> Any:
        return getattr(import_module(f"{self._package}.{self._relative_module}"), self._function)


def import_later(path: str, *, rows_with: str = "") -> Any:
    """Return a hook that calls a function of another module, without ``self``.

    ::

        class Sms(Extension):
            on_created = import_later("sending.build_messages")

    ``apps.py`` is imported before the models are loaded, so it imports no module that needs them.

    ``path``
        Module and function, relative to the package of the class.
    ``rows_with``
        Of ``parts_of``: a column of notifications. The hook is called with those that have something in it, if any has.
    """
    return ImportedHook(path, rows_with)
