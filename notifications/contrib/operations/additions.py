"""What other apps show to operators: the functions of a module ``operations`` in their packages.

    # sms/operations.py
    def metrics(): ...                                   # of Prometheus
    def alert_kinds(): ...
    def overview_sections(model_admin, request): ...     # of the overview in the admin

Each may be left out. The module is imported when one of them is needed first, so an app needs no code for a project
without this one. What they raise is logged, and leaves them out.

``metrics()``
    Returns metrics (``prometheus_client.core.Metric``), in one query that reads a bounded number of rows. Called when
    Prometheus reads, outside of any transaction.
``alert_kinds()``
    Returns instances of ``notifications.extension.AlertKind``. Called once.
``overview_sections(model_admin, request)``
    Returns dicts, each in a bounded number of queries. Their ``"template"`` is included, with the dict as ``section``
    and the context of the page. Called for each request of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from django.utils.module_loading import module_has_submodule

from notifications.conf import cached_until_changed
from notifications.extension import AlertKind, Calls, call_of, extensions

#: What a module may have.
NAMES = ("metrics", "alert_kinds", "overview_sections")


@cached_until_changed("INSTALLED_APPS")
def find_modules() -> dict[str, ModuleType]:
    """Return the modules of the installed extensions, by their labels."""
    return {
        each.label: import_module(f"{each.name}.operations")
        for each in extensions()
        if module_has_submodule(each.module, "operations")
    }


def functions_of(name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield what modules have under this name, which is left out where it fails, with the label of each app."""
    for label, module in find_modules().items():
        if function := getattr(module, name, None):
            yield label, call_of(function, label, name)


@cached_until_changed("INSTALLED_APPS")
def read_alert_kinds() -> dict[str, Any]:
    """Return the kinds of alerts of other apps by their names."""
    found = [(kind, label) for label, function in functions_of("alert_kinds") for kind in function()]
    return {kind.kind: Calls(kind, AlertKind, label) for kind, label in found}
