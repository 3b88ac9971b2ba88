"""The URL pattern of the WebSocket, for projects that configure Channels themselves.

::

    from channels.routing import ProtocolTypeRouter, URLRouter
    from notifications.routing import websocket_urlpatterns

    application = ProtocolTypeRouter({"http": django_application, "websocket": URLRouter(websocket_urlpatterns)})

It needs no middleware of Channels: the consumer checks the Origin and reads the session itself.
"""

from django.urls import path

from notifications.paths import WEBSOCKET_PATH
from notifications.realtime.transports.consumers import notifications_socket

websocket_urlpatterns = [path(WEBSOCKET_PATH, notifications_socket, name="notifications-socket")]
