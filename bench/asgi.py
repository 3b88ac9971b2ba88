"""The site's application, and beside it a stock Channels consumer at ``/ws/stock/``."""

import gc

from notifications.asgi import get_asgi_application

ours = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402  (the apps are ready now)

from bench.stock import StockConsumer  # noqa: E402

stock = AuthMiddlewareStack(StockConsumer.as_asgi())


async def application(scope, receive, send):
    if scope["type"] == "websocket" and scope["path"] == "/ws/stock/":
        return await stock(scope, receive, send)
    return await ours(scope, receive, send)


gc.collect()
gc.freeze()
