"""The optional apps of this package that are not installed, for errors that name the line to add.

Nothing lists what they have: their ``apps.py``, which imports no models, is imported when such an error is made.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from django.apps import apps
from django.template import TemplateSyntaxError
from django.urls import NoReverseMatch

PACKAGE = "notifications.contrib"
#: How Django begins its errors for a library, and for the name of a URL, that no installed app has.
_MISSING = re.compile(
    r"'(?P<library>\w+)' is not a registered tag library|Reverse for '(?P<url>[\w-]+)' not found\. .* not a valid"
)


def describe_remedy(app: str) -> str:
    """Return what to do where something of the app with this name is used and the app is not installed."""
    return f'Add "{app}" to INSTALLED_APPS, and run manage.py migrate.'


@cache
def shipped_extensions() -> dict[str, type[Any]]:
    """Return the ``Extension`` of each optional app whose libraries are installed, by the names of the apps."""
    found = {}
    for folder in _folders():
        name = f"{PACKAGE}.{folder.name}"
        try:
            values = vars(import_module(f"{name}.apps")).values()
        except ImportError:
            continue
        for value in values:
            if hasattr(value, "subcommands") and vars(value).get("name") == name:
                found[name] = value
    return found


def find_app(has: Callable[[type[Any]], bool]) -> str:
    """Return the name of the first optional app whose class has something, "" if there is none."""
    return next((name for name, extension in shipped_extensions().items() if has(extension)), "")


def find_app_of_setting(key: object) -> str:
    """Return the name of the app of a key of ``NOTIFICATIONS``, "" if there is none."""
    return find_app(lambda extension: key in extension.settings)


def find_app_of_subcommand(name: str) -> str:
    """Return the name of the app of a subcommand, or of a verb below one such as ``"jobs output"``."""
    return find_app(lambda extension: name in extension.subcommands)


def list_subcommands() -> list[str]:
    """Return the names of the subcommands of all optional apps, and of their verbs below others."""
    return [name for extension in shipped_extensions().values() for name in extension.subcommands]


def add_note_of_remedy(exc: BaseException) -> None:
    """Add to an error of Django for template tags or a URL of an app that is not installed which app has them.

    The name of a URL may be the project's own: Django's error has no namespace.
    """
    if not isinstance(exc, TemplateSyntaxError | NoReverseMatch) or not (found := _MISSING.match(str(exc))):
        return
    library, url = found.groups()
    for folder in _folders():
        app = f"{PACKAGE}.{folder.name}"
        has_it = _has_library(folder, library) if library else _has_url(folder, url)
        if has_it and not apps.is_installed(app):
            what = "These tags are" if library else f'If "notifications:{url}" is meant: it is'
            exc.add_note(f"{what} in an app that is not installed. {describe_remedy(app)}")


def _folders() -> Iterator[Path]:
    for place in import_module(PACKAGE).__path__:
        for module in pkgutil.iter_modules([place]):
            yield Path(place, module.name)


def _has_library(folder: Path, library: str) -> bool:
    return folder.joinpath("templatetags", f"{library}.py").is_file()


def _has_url(folder: Path, name: str) -> bool:
    """Return whether the URLs of an app have this name. They are read, not imported: their views import models."""
    file = folder.joinpath("urls.py")
    return file.is_file() and f'name="{name}"' in file.read_text()
