"""Whether the project's ASGI application leads to the WebSocket is tried, not read from settings."""

import asyncio

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application as get_django_application

from notifications.asgi import get_asgi_application
from notifications.realtime import hub, probe
from notifications.routing import websocket_urlpatterns
from tests.support.checks import doctor, system_checks

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.nightly_on_postgres]

ours = get_asgi_application()
with_route = ProtocolTypeRouter({"websocket": URLRouter(websocket_urlpatterns)})
without_route = ProtocolTypeRouter({"http": get_django_application()})
with_another_route = ProtocolTypeRouter({"websocket": URLRouter([])})
django_application = get_django_application()


async def in_middleware(scope, receive, send):
    """The middleware of Channels, which reads the settings when it is made."""
    await AllowedHostsOriginValidator(AuthMiddlewareStack(with_route))(scope, receive, send)


async def by_path(scope, receive, send):
    """Pass on the scopes of the app's path, as a project's own function does."""
    await ours(scope, receive, send) if scope["path"] == "/ws/notifications/" else None


async def accepting(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})


async def closing(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 4000})


async def stubborn(scope, receive, send):
    """Reads on after the disconnect, and refuses to be cancelled."""
    while True:
        try:
            await receive()
        except asyncio.CancelledError:
            await asyncio.sleep(3)
            return


async def silent(scope, receive, send):
    await asyncio.sleep(60)


@pytest.mark.parametrize("name", ["ours", "with_route", "in_middleware", "by_path"])
def test_it_leads_to_the_app(settings, name):
    """Without starting anything in this process."""
    settings.ASGI_APPLICATION = f"{__name__}.{name}"
    settings.ALLOWED_HOSTS = [".example.com"]
    before = set(hub._hubs)
    assert [finding["state"] for finding in doctor("socket")] == ["ok"]
    assert system_checks("W038", include_deployment_checks=True) == []
    assert set(hub._hubs) == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("without_route", "ValueError: No application configured for scope type 'websocket'"),
        ("with_another_route", "ValueError: No route found for path 'ws/notifications/'."),
        ("django_application", "ValueError: Django can only handle ASGI/HTTP connections, not websocket."),
        ("accepting", "Another application accepts them."),
        ("closing", "They are closed with the code 4000."),
        ("silent", "It does not answer within 0.1 s."),
        ("stubborn", "It does not answer within 0.1 s."),
        ("missing", "ImportError: "),
    ],
)
def test_it_leads_elsewhere(settings, set_bounds, name, problem):
    """W038, and a warning of doctor, with what has happened."""
    set_bounds(checks=0.1)
    settings.ASGI_APPLICATION = f"{__name__}.{name}"
    (warning,) = system_checks("W038", include_deployment_checks=True)
    assert problem in warning.msg, warning
    assert {finding["message"] for finding in doctor("W038")} == {warning.msg}


def test_the_application_beside_that_of_wsgi(settings):
    """A project that a server starts by its path may not name it in the settings."""
    settings.ASGI_APPLICATION, settings.WSGI_APPLICATION = None, "asyncsite.wsgi.application"
    assert probe.application_path() == "asyncsite.asgi.application"
    settings.WSGI_APPLICATION = "tests.wsgi.application"
    assert probe.application_path() == ""
    assert [finding["state"] for finding in doctor("socket")] == ["warning"]
    assert system_checks("W038", include_deployment_checks=True) == []
