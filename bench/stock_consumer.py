"""The consumer of Channels' documentation, which joins its user's group and sends what it receives, in the stack of its
``asgi.py``. It runs in its own server, which does not run this app."""

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402  (after Django is set up)
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402

from bench.messages import measured  # noqa: E402


class StockConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.group = f"user-{self.scope['user'].pk}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def note(self, event):
        await self.send_json(event["item"])


sockets = URLRouter([path("ws/stock/", StockConsumer.as_asgi())])
application = measured(
    ProtocolTypeRouter(
        {"http": django_application, "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(sockets))}
    )
)
