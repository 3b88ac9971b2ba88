"""The ASGI application for Daphne and uvicorn."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.everything.settings")

from notifications.asgi import get_asgi_application

application = get_asgi_application()
