"""The site's application under measurement."""

from notifications.asgi import get_asgi_application

ours = get_asgi_application()

from bench.telling import measured  # noqa: E402  (the apps are ready now)

application = measured(ours)
