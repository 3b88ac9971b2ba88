"""The ASGI application of the site, in development with static files and the sample upstream."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asyncsite.settings")

from notifications.asgi import get_asgi_application

application = get_asgi_application()

from django.conf import settings  # noqa: E402  (after setup)

if settings.DEBUG:
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    from asyncsite.development import with_upstream

    application = with_upstream(ASGIStaticFilesHandler(application))

# Exclude what lives as long as the process from later garbage collections.
gc.collect()
gc.freeze()
