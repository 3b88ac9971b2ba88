"""The ASGI application of the site; in development with static files and the sample upstream."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asyncsite.settings")

from notifications.asgi import get_asgi_application

application = get_asgi_application()

from django.conf import settings  # noqa: E402  (the apps are ready now)

if settings.DEBUG:
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    from asyncsite.development import with_upstream

    application = with_upstream(ASGIStaticFilesHandler(application))

# What is loaded now lives as long as the process: keep it out of every later garbage collection.
gc.collect()
gc.freeze()
