"""The site's application, a stock Channels consumer at ``/ws/stock/``, and what tells users something at ``/tell/``."""

import gc

from notifications.asgi import get_asgi_application

ours = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402  (the apps are ready now)

from bench.stock import StockConsumer  # noqa: E402
from bench.telling import count_queries, tell  # noqa: E402

stock = AuthMiddlewareStack(StockConsumer.as_asgi())


async def application(scope, receive, send):
    if scope["type"] == "websocket" and scope["path"] == "/ws/stock/":
        return await stock(scope, receive, send)
    if scope["type"] == "http" and scope["path"].startswith("/tell/"):
        # Past Django: what a request of the measurement itself costs is no cost of the push.
        numbers = scope["query_string"].decode().split(",")
        await tell(scope["path"].removeprefix("/tell/"), *map(float, filter(None, numbers)))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        return await send({"type": "http.response.body", "body": b"{}"})
    return await ours(scope, receive, send)


count_queries()
# For both sides, as the site does it for itself.
gc.collect()
gc.freeze()
