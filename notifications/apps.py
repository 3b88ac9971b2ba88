"""The configuration of the app."""

import sys

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from notifications.extension import installed


class NotificationsConfig(AppConfig):
    name = "notifications"
    label = "notifications"
    verbose_name = _("Notifications and jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from notifications import checks, duties, receivers, upkeep  # noqa: F401  (the import registers the checks)
        from notifications.realtime import doorbell  # noqa: F401  (connected also in a process that only writes)
        from notifications.tracing import spans

        receivers.connect()
        installed.load()
        upkeep.list_duties = duties.list_duties
        spans.configure()
        if "daphne.http_protocol" in sys.modules:
            from notifications.realtime.servers import daphne

            daphne.use_bounded_protocols()
