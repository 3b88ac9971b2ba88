"""Change the processes of a site for a test: they call change() of the modules in TEST_CHANGES when they start."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class Changes(AppConfig):
    name = "tests.support"
    label = "changes"

    def ready(self):
        for module in settings.TEST_CHANGES:
            import_module(module).change()
