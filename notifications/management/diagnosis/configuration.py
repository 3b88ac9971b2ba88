"""Checks of what is installed and configured: versions, settings, the WebSocket and origins."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import django
from django.conf import settings as django_settings
from django.core.checks import WARNING, CheckMessage, Error, Info, Tags, Warning, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from notifications.compat import task_backends
from notifications.conf import settings
from notifications.management.diagnosis.checking import Examination, explain, register
from notifications.management.management_command import UNUSABLE_REMEDY, unusable
from notifications.realtime import probe
from notifications.realtime.auth import handshakes
from notifications.realtime.checks import RUNSERVER_PROBLEM, RUNSERVER_REMEDY, check_websocket, serves_wsgi
from notifications.realtime.doorbell import channel_layer


@register(Tags.database, "versions")
def check_versions(examination: Examination) -> Iterator[CheckMessage]:
    """Check for installed versions that are known not to work."""
    found = {"python": platform.python_version(), "django": django.get_version()}
    for name in ("channels", "daphne", "uvicorn", "psycopg", "channels_redis", "redis", "aiohttp", "celery"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if int(found.get("redis", "0").split(".")[0]) >= 8 and channel_layer.reads_time_out():
        yield Warning(
            f"redis {found['redis']} disconnects consumers of the project that wait for the channel layer every 5 s. "
            "Those of this app set their own timeout.",
            hint='Give each of its hosts one: {"address": "redis://…", "socket_timeout": None}.',
            obj=found,
        )
    else:
        yield Info(", ".join(f"{name} {number}" for name, number in found.items()), obj=found)


@register(Tags.database, "settings", "The settings pass all checks of notifications.")
def check_settings(examination: Examination) -> Iterable[CheckMessage]:
    """Run the system checks of the app and its extensions; those that need a database are run by ``tables``."""
    try:
        for alias in task_backends.settings:
            task_backends[alias]  # imports it
    except (ImproperlyConfigured, LookupError, TypeError) as exc:
        return [Error(f"TASKS is wrong: {type(exc).__name__}: {explain(exc)}", hint="Correct TASKS.")]
    found = run_checks(tags=["notifications"])
    # The engines have a check of their own, which says what waits because of it.
    return [each for each in found if each.level >= WARNING and each.id != "notifications.E007"]


@register("processes", "subcommands")
def check_subcommands(examination: Examination) -> Iterator[CheckMessage]:
    """Find the subcommands of extensions that were left out when this command was loaded."""
    for _, problem in sorted(unusable.items()):
        yield Warning(problem, hint=UNUSABLE_REMEDY)


@register("processes", "socket")
def check_socket(examination: Examination) -> Iterator[CheckMessage]:
    """Open a WebSocket through the project's ASGI application, in this process."""
    if not (path := probe.application_path()):
        message = "There is no ASGI_APPLICATION in the settings to open a WebSocket with."
        yield Warning(message, hint="Name the application that the server loads.")
    elif found := check_websocket(None):
        yield from found
    # A project in development that has uvicorn alone is served by that.
    elif django_settings.DEBUG and serves_wsgi() and (find_spec("daphne") or not find_spec("uvicorn")):
        yield Warning(RUNSERVER_PROBLEM, hint=RUNSERVER_REMEDY, id="notifications.W042")
    else:
        yield Info(f"WebSockets reach the app in {path}.")


@register("processes", "origin")
def check_origin(examination: Examination) -> Iterator[CheckMessage]:
    """Check whether pages of this origin may open a WebSocket to the server that they were loaded from."""
    page = examination.page
    if page is None:
        return
    if (found := handshakes.parse_origin(page)) is None:
        hint = "An origin is the scheme, host and port of a page: https://example.com"
        yield Error(f"{page!r} is not an origin.", hint=hint)
        return
    request = HttpRequest()
    host = page.split("://")[1]
    request.META.update({"HTTP_HOST": host, "SERVER_NAME": found[1], "SERVER_PORT": found[2]})
    request._get_scheme = lambda: found[0]  # type: ignore[method-assign]
    listed = found in map(handshakes.parse_origin, settings.ORIGINS)
    if listed or handshakes.is_origin_allowed([page.encode()], request):
        yield Info(f"Pages of {page} may connect.")
    else:
        yield Error(
            f"Pages of {page} may not connect: the server does not answer for that host.",
            hint="Add the host to ALLOWED_HOSTS or, for pages of another host, the origin to "
            "NOTIFICATIONS['ORIGINS'].",
        )
