"""System checks of how the project is served, and of its channel layer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Warning, register
from django.core.management import get_commands

from notifications.lazy_names import LateModule

if TYPE_CHECKING:
    from notifications.realtime import probe
    from notifications.realtime.doorbell import channel_layer
else:
    channel_layer = LateModule("notifications.realtime.doorbell.channel_layer")
    probe = LateModule("notifications.realtime.probe")

#: Of a project whose ``runserver`` is not that of Daphne.
RUNSERVER_PROBLEM = (
    "runserver serves the site by WSGI: nothing is pushed, so pages poll every 15 s, and it runs no jobs."
)
RUNSERVER_REMEDY = (
    'Add "daphne" as the first line of INSTALLED_APPS (pip install "asyncsite-notifications[daphne]"), or serve the '
    "site by another ASGI server."
)


@register("notifications", deploy=True)
# It imports and calls the project's application; doctor reports it too.
def check_websocket(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W038: the ASGI application of the project does not lead to the app's WebSocket, so pages poll."""
    path = probe.application_path()
    problem = probe.find_problem(path) if path else ""
    if not problem:
        return []
    hint = probe.describe_remedy(path)
    return [Warning(probe.describe(path, problem), hint=hint, id="notifications.W038")]


@register("notifications")
def check_runserver(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W042: runserver serves the site by WSGI. W038, when its application is the one of Django.

    Found by runserver alone: a site may be served by another program.
    """
    if sys.argv[1:2] != ["runserver"]:
        return []
    if serves_wsgi():
        return [Warning(RUNSERVER_PROBLEM, hint=RUNSERVER_REMEDY, id="notifications.W042")]
    return find_application_of_django()


def find_application_of_django() -> list[CheckMessage]:
    """Return W038 if the file of the application imports Django's, and no other module leads to the app.

    Any other application is not tried in a process that serves: importing it may start what it serves.
    """
    return check_websocket(None) if probe.is_of_django(probe.application_path()) else []


def serves_wsgi() -> bool:
    """Return whether ``runserver`` is Django's own, which serves the site by WSGI."""
    return get_commands()["runserver"] in {"django.core", "django.contrib.staticfiles"}


@register("notifications")
def check_channel_layer(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W049: the channel layer of the project cannot be made, so other processes are not rung."""
    path = channel_layer.configured_path()
    try:
        if path:
            channel_layer.make_layer()
    except Exception as exc:  # of the project's class, or its options
        return [
            Warning(
                f"CHANNEL_LAYERS['default'] is {path!r}, which cannot be made: {type(exc).__name__}: {exc}. Other "
                "processes learn of changes by polling only.",
                hint="Correct its BACKEND and CONFIG, or remove it: processes then notify each other through the "
                "database.",
                id="notifications.W049",
            )
        ]
    return []
