"""The WebSocket's URL, for projects with an ASGI file of their own:

    from channels.routing import ProtocolTypeRouter, URLRouter
    from notifications.routing import websocket_urlpatterns

    application = ProtocolTypeRouter({"http": django_application, "websocket": URLRouter(websocket_urlpatterns)})

The Origin is checked and the session read there; Channels' middleware around it is not needed.
"""

from django.urls import path

from notifications.realtime.transports.consumers import notifications_socket

websocket_urlpatterns = [path("ws/notifications/", notifications_socket, name="notifications-socket")]
