from django.apps import AppConfig


class AsyncsiteConfig(AppConfig):
    name = "asyncsite"
    default_auto_field = "django.db.models.BigAutoField"
