"""The installed extensions and the hooks that they define."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string, module_has_submodule

from notifications import conf
from notifications.extension.app import Extension, Rows
from notifications.extension.channels import MAX_NAME_LENGTH, BrokenChannel, Channel
from notifications.extension.dimensions import (
    UNKNOWN_KIND,
    AlertKind,
    Event,
    Fact,
    HubPart,
    PageButton,
    Pause,
    Pruned,
    Topic,
    WaitKind,
    WorkerPart,
    in_order,
)
from notifications.extension.dispatch import Dispatch
from notifications.extension.duty import Duty

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from django.contrib.admin import SimpleListFilter
    from django.http import HttpResponse

    from notifications.db.clock import StoredTime
    from notifications.jobs.declaring.policies import Policy
    from notifications.models import Job, Notification, Worker
    from notifications.upkeep import Upkeep


logger = logging.getLogger("notifications")


class Hooks:
    """The hooks that installed extensions define: the bound methods of each, in their order."""

    def __init__(self, extensions: Iterable[Extension] = ()) -> None:
        self.extensions = list(extensions)

        def defined(name: str) -> list[Any]:
            default = getattr(Extension, name)
            return [
                getattr(each, name) for each in self.extensions if getattr(type(each), name) is not default
            ]

        def by_label(name: str) -> dict[str, Any]:
            return {hook.__self__.label: hook for hook in defined(name)}

        #: Dotted paths by name.
        self.subcommands: dict[str, str] = {
            name: path for each in self.extensions for name, path in each.subcommands.items()
        }
        self.findings: dict[str, str] = {
            name: path for each in self.extensions for name, path in each.findings.items()
        }
        #: Dotted paths by name.
        self.channels = {name: path for each in self.extensions for name, path in each.channels.items()}
        #: By their dotted paths.
        self.own_tasks = {path: task for each in self.extensions for path, task in each.own_tasks.items()}
        self.runners = {name: label for each in self.extensions for name, label in each.runners.items()}
        #: The column by the label of the model.
        self.rows_of_jobs = {
            model: key for each in self.extensions for model, key in each.rows_of_jobs.items()
        }
        self.rows_of_notifications = {
            model: key for each in self.extensions for model, key in each.rows_of_notifications.items()
        }
        self.duties: list[Callable[[Upkeep], Iterable[Duty]]] = defined("duties")
        self.job_sections = [section for each in self.extensions for section in each.job_sections]
        #: By ``kind``.
        self.wait_kinds = {
            kind.kind: kind for kind in (Pause(), *(k for e in self.extensions for k in e.wait_kinds))
        }
        #: By the label of the extension.
        self.worker_part: dict[str, Callable[[Any], WorkerPart]] = by_label("worker_part")
        self.hub_part: dict[str, Callable[[Any], HubPart]] = by_label("hub_part")
        self.stored_names: list[Callable[[UUID], Mapping[str, str]]] = defined("stored_names")
        #: By the label of the extension.
        self.before_accepted: dict[str, Callable[..., Any]] = by_label("before_accepted")
        self.on_accepted: dict[str, Callable[..., None]] = by_label("on_accepted")
        self.headers_of_accepted: dict[str, Callable[..., Mapping[str, str]]] = by_label(
            "headers_of_accepted"
        )
        self.dispatch: Dispatch = next((hook() for hook in defined("dispatch")), Dispatch())
        self.steps_of: list[Callable[..., tuple[Sequence[Any], int]]] = defined("steps_of")
        self.prepare: list[Callable[[], None]] = defined("prepare")
        self.rows_per_notification: list[Callable[[], int]] = defined("rows_per_notification")
        self.rows_per_end: list[Callable[[], int]] = defined("rows_per_end")
        self.before_created: list[Callable[..., None]] = defined("before_created")
        self.on_created: list[Callable[..., Rows]] = defined("on_created")
        self.on_attempts: list[Callable[..., Rows]] = defined("on_attempts")
        self.on_ends: list[Callable[..., Rows]] = defined("on_ends")
        self.on_answered: list[Callable[..., Rows]] = defined("on_answered")
        self.on_retried: list[Callable[..., None]] = defined("on_retried")
        self.on_workers_lost: list[Callable[[Sequence[Worker], datetime], None]] = defined("on_workers_lost")
        self.last: list[Callable[..., None]] = defined("last")
        self.after_commit: dict[str, Callable[[Any], None]] = by_label("after_commit")
        self.policy_at: list[Callable[[str], Policy | None]] = defined("policy_at")
        self.after_cancel: list[Callable[[Sequence[Job], Sequence[Job]], None]] = defined("after_cancel")
        self.may_raise: list[Callable[..., Sequence[Notification]]] = defined("may_raise")
        self.may_follow: list[Callable[[UUID, Any], bool]] = defined("may_follow")
        self.before_raised: list[Callable[..., None]] = defined("before_raised")
        self.on_raised: list[Callable[..., None]] = defined("on_raised")
        self.read_deliver: list[Callable[[Any], Any]] = defined("read_deliver")
        self.senders: list[Callable[..., Mapping[UUID, Any]]] = defined("senders")
        self.events_of: list[Callable[..., Iterable[Event]]] = defined("events_of")
        self.time_zone_of: list[Callable[[Any], str]] = defined("time_zone_of")
        self.page_links: list[Callable[[str], Sequence[tuple[str, str]]]] = defined("page_links")
        self.facts_of: list[Callable[..., Sequence[Fact]]] = defined("facts_of")
        self.row_buttons: list[Callable[[Notification], Sequence[PageButton]]] = defined("row_buttons")
        self.describe_change: list[Callable[..., tuple[str, PageButton] | None]] = defined("describe_change")
        self.stored_times: list[Callable[[datetime], Iterable[StoredTime]]] = defined("stored_times")
        self.pruned: list[Callable[[], Sequence[Pruned]]] = defined("pruned")
        self.topics: list[Callable[[Collection[str]], Iterable[Topic]]] = defined("topics")
        self.delete_of_users: list[Callable[..., int]] = defined("delete_of_users")
        self.list_filters: list[Callable[..., Sequence[type[SimpleListFilter]]]] = defined("list_filters")
        self.list_links: list[Callable[..., Sequence[tuple[str, str]]]] = defined("list_links")
        self.action_for_all: list[Callable[..., Callable[[], HttpResponse | None] | None]] = defined(
            "action_for_all"
        )
        self.alert_kinds: dict[str, AlertKind] = {
            kind.kind: kind for hook in defined("alert_kinds") for kind in hook()
        }
        self.overview_sections: list[Callable[..., Iterable[Mapping[str, Any]]]] = defined(
            "overview_sections"
        )
        self.metrics: list[Callable[[], Iterable[Any]]] = defined("metrics")
        self.admin_section: list[Callable[..., tuple[str, dict[str, Any]] | None]] = defined("admin_section")
        self.origin_link: list[Callable[..., str]] = defined("origin_link")


hooks = Hooks()


def read_events(subject: Job | Notification, reader: Any = None) -> list[Event]:
    """Return what extensions know to have happened to a job or a notification. See ``Extension.events_of()``."""
    return in_order(event for hook in hooks.events_of for event in hook(subject, reader))


def read_facts(row: Notification, reader: Any, *, in_full: bool = False) -> list[Fact]:
    """Return what extensions say of a notification to its user. See ``Extension.facts_of()``."""
    return [fact for hook in hooks.facts_of for fact in hook(row, reader, in_full=in_full)]


def find_urlpatterns() -> list[Any]:
    """Return the URL patterns of the modules ``urls`` of installed extensions."""
    return [
        pattern
        for each in extensions()
        if module_has_submodule(each.module, "urls")
        for pattern in import_module(f"{each.name}.urls").urlpatterns
    ]


def find_channel(name: str) -> Channel:
    """Return a channel; one that has no addresses if its extension is not installed any more.

    For one whose class cannot be imported, or is none, a ``BrokenChannel``: neither pages nor other channels fail.
    """
    path = hooks.channels.get(name)
    return Channel(name) if path is None else _make_channel(name, path)


@cache
def _make_channel(name: str, path: str) -> Channel:
    try:
        channel = import_string(path)(name)
        if not isinstance(channel, Channel):
            raise TypeError("It is no notifications.extension.Channel.")
        if channel.has_digests and channel.has_many_addresses:
            raise TypeError("has_digests and has_many_addresses exclude each other.")
    except Exception as exc:
        if not apps.ready:  # it can be imported later
            raise
        logger.exception("Could not make the channel %s from %s", name, path)
        text = f"The channel {name!r} cannot be made from {path}: {type(exc).__name__}: {exc}"
        return BrokenChannel(name, text)
    return channel


def find_wait_kind(kind: str) -> WaitKind:
    """Return a kind of waits; one that does nothing if its extension is not installed any more."""
    return hooks.wait_kinds.get(kind, UNKNOWN_KIND)


def make_worker_parts(state: Any) -> dict[str, WorkerPart]:
    """Return what extensions do in a worker, by their labels. See ``Extension.worker_part()``."""
    return {label: make(state) for label, make in hooks.worker_part.items()}


def make_hub_parts(hub: Any) -> dict[str, HubPart]:
    """Return what extensions do in the hub of a server, by their labels. See ``Extension.hub_part()``."""
    return {label: make(hub) for label, make in hooks.hub_part.items()}


def load() -> None:
    """Read the hooks and settings of the installed extensions. Called when the app is ready.

    Raises ``ImproperlyConfigured`` if an app is missing that one of them requires, and for the name of a channel.
    """
    hooks.__init__(extensions())  # type: ignore[misc]
    for name in (name for each in hooks.extensions for name in each.requires):
        require(name)
    for name in hooks.channels:
        if not name.isidentifier() or len(name) > MAX_NAME_LENGTH or name == "bell":
            text = f"{name!r} cannot be a channel. Its name is an identifier of at most {MAX_NAME_LENGTH} characters."
            raise ImproperlyConfigured(text)
    conf.SETTINGS = conf.CORE_SETTINGS | {
        key: setting for each in hooks.extensions for key, setting in each.settings.items()
    }


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


def require(name: str) -> None:
    """Raise ``ImproperlyConfigured`` if this app (its dotted path) is not installed, with the line to add.

    Modules of models in ``contrib`` call it before they declare one: Django would register the model for the label
    ``notifications``, because its module is below that app.
    """
    if not apps.is_installed(name):
        raise ImproperlyConfigured(
            f'{name} is not installed. Add "{name}" to INSTALLED_APPS, and run manage.py migrate.'
        )
