"""The check of background tasks of installed packages, whose authors do not know ``@policy``."""

from __future__ import annotations

import sys
import sysconfig
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.extension import moved
from notifications.jobs.declaring.policies import has_policy
from notifications.jobs.declaring.tasks import JobTask


@register("notifications")
def check_policies_of_packages(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W039: background tasks of a package have no policy, so that an exception ends their jobs."""
    found: list[CheckMessage] = []
    for name, module in sorted(sys.modules.items()):
        # Those of this app have their policies.
        if not name.endswith(".tasks") or name.startswith("notifications.") or not is_of_package(module):
            continue
        tasks = [task for task in vars(module).values() if isinstance(task, JobTask)]
        if paths := [task.module_path for task in tasks if not has_policy(task.func)]:
            message = (
                f"Tasks of a package have no policy: {', '.join(paths)}. An exception ends their jobs, and their "
                "owners are notified."
            )
            hint = f'Declare one for "{name}.*" in OPTIONS["policies"] of the backend; {{}} leaves it so.'
            if name.partition(".")[0] in ("modelsearch", "wagtail"):
                hint = moved.describe_remedy("wagtail")
            found.append(Warning(message, hint=hint, id="notifications.W039"))
    return found


def is_of_package(module: Any) -> bool:
    """Return whether a module is of an installed package, not of the project."""
    file = getattr(module, "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
