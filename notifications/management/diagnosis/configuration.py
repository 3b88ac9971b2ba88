"""Checks of what is installed and configured: versions, settings, declarations, the WebSocket and origins."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import django
from django.conf import settings as django_settings
from django.core import checks
from django.http import HttpRequest

from notifications.checks import RUNSERVER_PROBLEM, RUNSERVER_REMEDY, serves_wsgi
from notifications.compat import task_backends
from notifications.conf import settings
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding
from notifications.realtime import probe
from notifications.realtime.auth import handshakes
from notifications.realtime.doorbell import channel_layer

#: Checks of single declarations that are ignored: limits of queues, observed tasks, policies and handlers.
IGNORED_DECLARATIONS = {f"notifications.{id}" for id in ("W009", "W010", "W011", "W026", "W027", "W028")}
#: Checks whose finding another check of doctor has, with what waits because of it.
FOUND_ELSEWHERE = {
    "notifications.E007",
    *IGNORED_DECLARATIONS,
    *(f"notifications.W02{digit}" for digit in range(6)),
}


def check_settings() -> Finding:
    """Run the app's system checks. The first error, or else the first warning, is the finding."""
    try:
        for alias in task_backends.settings:
            task_backends[alias]  # imports it
        messages = checks.run_checks(tags=["notifications"])
    except Exception as exc:  # importing the URLs or a backend of the project may raise anything
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        return Finding(
            "settings",
            ERROR,
            f"The settings cannot be checked: {reason}",
            "Correct that, then run manage.py check.",
        )
    found = sorted(
        (
            message
            for message in messages
            if message.level >= checks.WARNING
            and not message.is_silenced()
            and message.id not in FOUND_ELSEWHERE
        ),
        key=lambda message: -message.level,
    )
    if not found:
        return Finding("settings", OK, "The settings pass all checks of notifications.")
    return _finding("settings", found, ERROR if found[0].level >= checks.ERROR else WARNING)


def check_declarations() -> Finding:
    """Check that no limit, observed task, policy or handler in the settings is ignored, because it is wrong."""
    messages = checks.run_checks(tags=["notifications"])
    found = [
        message for message in messages if message.id in IGNORED_DECLARATIONS and not message.is_silenced()
    ]
    if not found:
        message = "Limits, observed tasks, policies and handlers are declared correctly."
        return Finding("options", OK, message)
    return _finding("options", found, ERROR)


def _finding(check: str, messages: list[checks.CheckMessage], state: str) -> Finding:
    first = messages[0]
    others = f" manage.py check has {len(messages) - 1} more." if len(messages) > 1 else ""
    return Finding(
        check,
        state,
        f"{first.msg} ({first.id}){others}",
        first.hint or f"See {first.id} in the reference of system checks.",
        {"ids": [message.id for message in messages]},
    )


def check_versions() -> Finding:
    """Check for installed versions that are known not to work."""
    found = {"python": platform.python_version(), "django": django.get_version()}
    for name in ("channels", "daphne", "uvicorn", "psycopg", "channels_redis", "redis", "aiohttp", "celery"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    message = ", ".join(f"{name} {number}" for name, number in found.items())
    if int(found.get("redis", "0").split(".")[0]) >= 8 and channel_layer.reads_time_out():
        return Finding(
            "versions",
            WARNING,
            f"redis {found['redis']} disconnects consumers of the project that wait for the channel layer every 5 s. "
            "Those of this app set their own timeout.",
            'Give each of its hosts one: {"address": "redis://…", "socket_timeout": None}.',
            found,
        )
    return Finding("versions", OK, message, figures=found)


def check_socket() -> Finding:
    """Open a WebSocket through the project's ASGI application, in this process."""
    path = probe.application_path()
    if not path:
        message = "There is no ASGI_APPLICATION in the settings to open a WebSocket with."
        return Finding("socket", WARNING, message, "Name the application that the server loads.")
    if problem := probe.find_problem(path):
        return Finding("socket", WARNING, probe.describe(path, problem), probe.REMEDY)
    # A project in development that has uvicorn alone is served by that.
    if django_settings.DEBUG and serves_wsgi() and (find_spec("daphne") or not find_spec("uvicorn")):
        return Finding("socket", WARNING, RUNSERVER_PROBLEM, RUNSERVER_REMEDY)
    return Finding("socket", OK, f"WebSockets reach the app in {path}.")


def check_origin(page: str) -> Finding:
    """Check whether pages of this origin may open a WebSocket to the server that they were loaded from."""
    found = handshakes.parse_origin(page)
    if found is None:
        return Finding(
            "origin",
            ERROR,
            f"{page!r} is not an origin.",
            "An origin is the scheme, host and port of a page: https://example.com",
        )
    request = HttpRequest()
    host = page.split("://")[1]
    request.META.update({"HTTP_HOST": host, "SERVER_NAME": found[1], "SERVER_PORT": found[2]})
    request._get_scheme = lambda: found[0]  # type: ignore[method-assign]
    listed = found in map(handshakes.parse_origin, settings.ORIGINS)
    if listed or handshakes.is_origin_allowed([page.encode()], request):
        return Finding("origin", OK, f"Pages of {page} may connect.")
    return Finding(
        "origin",
        ERROR,
        f"Pages of {page} may not connect: the server does not answer for that host.",
        "Add the host to ALLOWED_HOSTS or, for pages of another host, the origin to NOTIFICATIONS['ORIGINS'].",
    )
