"""Where a page finds the scripts and style sheets of the browser client.

In development they are the modules, otherwise the bundles that are made of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.templatetags.static import static
from django.utils.safestring import SafeString, mark_safe

ENTRY_MODULE = "entry"
#: Modules without elements: all that a page of an anonymous user loads, when its own code uses them.
CORE_MODULES = (
    "client",
    "connection",
    "polling",
    "tabs",
    "requests",
    "job_handle",
    "jobs",
    "stream",
    "connect",
)
MODULES = (
    *CORE_MODULES,
    "notifications",
    "localization",
    "dom",
    "bell_color",
    "bell",
    "toasts",
    "forms",
)
#: What draws rows of notifications, and does what is pressed in them.
ROW_MODULES = ("rows", "row_menu", "row_keys", "actions")
#: By element: loaded where the page has one, and later if one is inserted. That of output also has the listeners of
#: a job that few pages need. "contrast" is loaded with DEBUG, and checks that the bell can be seen.
LAZY_MODULES = {
    "rows": ROW_MODULES,
    # Loaded when the bell is about to be opened, or a toast to be shown.
    "panel": ("bell_panel", "bell_place", "toast_list", *ROW_MODULES),
    "inbox": (
        "inbox",
        "inbox_list",
        "inbox_rows",
        "inbox_search",
        "inbox_state",
        *ROW_MODULES,
    ),
    "job": ("job_element", "job_texts"),
    "output": ("output_element", "output_reader", "output_search", "job_events"),
    "preferences": ("preferences",),
    "push": ("push",),
    "contrast": ("bell_contrast",),
    # Loaded by an inbox that has room for it.
    "pane": ("reading_pane",),
    # Loaded with the first key that is pressed while a list is open.
    "shortcuts": ("shortcuts",),
    # Loaded with the first page that has another key for push.
    "push_key": ("push_key",),
}
#: The bundles with these modules, where that is not the one of the element's name.
LAZY_BUNDLES = {"panel": ("panel", "rows"), "inbox": ("inbox", "rows")}
MODULE_FOLDER = Path(__file__).parent.parent / "static" / "notifications"


def find_lazy_modules() -> dict[str, dict[str, str]]:
    """Return the URLs of the modules in ``LAZY_MODULES``, or of their bundles."""
    elements = [element for element in LAZY_MODULES if element != "contrast" or settings.DEBUG]
    if uses_modules():
        return {element: find_modules(LAZY_MODULES[element]) for element in elements}
    return {
        element: find_modules(f"bundle/{name}" for name in LAZY_BUNDLES.get(element, (element,)))
        for element in elements
    }


def find_anonymous_scripts() -> tuple[str, dict[str, str]]:
    """Return the URLs of the entry module and of the others for the page of an anonymous user."""
    if uses_modules():
        return find_module(ENTRY_MODULE), find_modules(CORE_MODULES)
    return find_module("bundle/entry"), find_modules(["bundle/page"])


def find_scripts() -> tuple[str, dict[str, str], dict[str, dict[str, str]]]:
    """Return the URLs of the entry module, of the other modules, and of those of elements that few pages have.

    A bundle contains the entry module and the others; the entry module then imports the script that it is in.
    """
    if uses_modules():
        return find_module(ENTRY_MODULE), find_modules(MODULES), find_lazy_modules()
    return find_module("bundle/page"), find_modules(["bundle/page"]), find_lazy_modules()


def find_stylesheets(request: Any, *, has_pages: bool = False) -> list[str]:
    """Return the URL of the style sheet, and on the app's own pages also that of the pages.

    In development its parts are linked: a Content-Security-Policy with a nonce blocks what a style sheet imports.
    """
    match = getattr(request, "resolver_match", None)
    names = ["tokens", "initial", "notifications"] if uses_modules() else ["notifications"]
    if has_pages or (match is not None and match.app_name == "notifications"):
        names.append("pages")
    folder = "notifications" if uses_modules() else "notifications/bundle"
    return [static(f"{folder}/{name}.css") for name in names]


@cache
def read_initial_style() -> SafeString:
    return mark_safe((MODULE_FOLDER / "bundle" / "initial.css").read_text(encoding="utf-8").strip())  # noqa: S308


def uses_modules() -> bool:
    """Return whether pages load the modules themselves, so that a change of one needs no build: in development."""
    return settings.DEBUG and _has_modules()


@cache
def _has_modules() -> bool:
    return (MODULE_FOLDER / f"{ENTRY_MODULE}.js").exists()  # a checkout; the wheel has only the bundles


def find_modules(names: Iterable[str]) -> dict[str, str]:
    return {name: static(f"notifications/{name}.js") for name in names}


def find_module(name: str) -> str:
    return static(f"notifications/{name}.js")
