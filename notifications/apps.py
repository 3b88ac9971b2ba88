"""The configuration of the app."""

import sys
from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from notifications.extension import installed


class NotificationsConfig(AppConfig):
    name = "notifications"
    label = "notifications"
    verbose_name = _("Notifications and jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from notifications import checks, receivers, upkeep  # noqa: F401  (the import registers the checks)
        from notifications.db import sqlstates
        from notifications.realtime import doorbell  # noqa: F401  (connected also in a process that only writes)
        from notifications.tracing import spans

        receivers.connect()
        installed.load()
        sqlstates.list_apps = installed.list_apps
        upkeep.list_duties = _list_duties
        spans.configure()
        if "daphne.http_protocol" in sys.modules:
            from notifications.realtime.servers import daphne

            daphne.use_bounded_protocols()


def _list_duties(process: Any) -> list[Any]:
    # Only processes that last need it: workers, and servers.
    from notifications import duties

    return duties.list_duties(process)
