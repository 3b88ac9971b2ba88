"""The check of background tasks of installed packages, whose authors do not know ``@policy``."""

from __future__ import annotations

import sys
import sysconfig
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.extension import Extension, shipped
from notifications.jobs.declaring.policies import has_policy
from notifications.jobs.declaring.tasks import BackendTask


@register("notifications")
def check_policies_of_packages(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W039: background tasks of a package have no policy, so that an exception ends their jobs."""
    found: list[CheckMessage] = []
    for name, module in sorted(sys.modules.items()):
        # Those of this app have their policies.
        if not name.endswith(".tasks") or name.startswith("notifications.") or not is_of_package(module):
            continue
        tasks = [task for task in vars(module).values() if isinstance(task, BackendTask)]
        own = [task for task in tasks if task.func.__module__ == name]  # others are imported
        if paths := [task.module_path for task in own if not has_policy(task.func)]:
            message = (
                f"Tasks of a package have no policy: {', '.join(paths)}. An exception ends their jobs, and their "
                "owners are notified."
            )
            hint = f'Declare one for "{name}.*" in OPTIONS["policies"] of the backend; {{}} leaves it so.'
            if app := shipped.find_app(partial(_adapts, path=paths[0])):
                hint = shipped.describe_remedy(app)
            found.append(Warning(message, hint=hint, id="notifications.W039"))
    return found


def _adapts(extension: type[Extension], *, path: str) -> bool:
    """Return whether an optional app declares a policy for the task at this dotted path."""
    return any(fnmatchcase(path, pattern) for pattern in extension.tasks)


def is_of_package(module: Any) -> bool:
    """Return whether a module is of an installed package, not of the project."""
    file = getattr(module, "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
