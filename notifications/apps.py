"""The configuration of the app."""

import sys
from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from notifications import extension
from notifications.extension import Extension

#: Extensions of features that are no apps of their own yet. One that becomes one stands in INSTALLED_APPS instead.
FEATURES = ("notifications.engines.extension.Engines",)


class NotificationsConfig(AppConfig):
    name = "notifications"
    label = "notifications"
    verbose_name = _("Notifications and jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from notifications import checks, duties, receivers, upkeep  # noqa: F401  (the import registers the checks)
        from notifications.jobs import ports
        from notifications.realtime import (
            doorbell,  # the import connects it, also in a process that only writes
        )
        from notifications.tracing import spans

        receivers.connect()
        classes: list[type[Extension]] = [import_string(path) for path in FEATURES]
        features = [cls(cls.name, import_module(cls.name)) for cls in classes]
        extension.load(features)
        for feature in features:
            feature.ready()  # as Django calls that of an installed app
        upkeep.list_duties = duties.list_duties
        spans.configure()
        ports.listen, ports.flush_rings = doorbell.listen, doorbell.flush
        if "daphne.http_protocol" in sys.modules:
            from notifications.realtime.servers import daphne

            daphne.use_bounded_protocols()
