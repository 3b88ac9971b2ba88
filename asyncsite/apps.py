from django.apps import AppConfig
from django.conf import settings


class AsyncsiteConfig(AppConfig):
    name = "asyncsite"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        if settings.CELERY_BROKER_URL:
            from asyncsite import celery  # noqa: F401  (processes that enqueue jobs need the app)
