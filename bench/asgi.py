"""The site's application, with the paths that benchmarks call."""

from notifications.asgi import get_asgi_application

site = get_asgi_application()

from bench.messages import measured  # noqa: E402  (after Django is set up)

application = measured(site)
