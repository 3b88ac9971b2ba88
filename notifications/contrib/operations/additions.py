"""What other apps show to operators: the functions of a module ``operations`` in their packages.

    # sms/operations.py
    def metrics(): ...                                   # of Prometheus
    def alert_kinds(): ...
    def overview_sections(model_admin, request): ...     # of the overview in the admin

Each may be left out. The module is imported when one of them is needed first, so an app needs no code for a project
without this one. What they raise is logged, and leaves them out.

``metrics()``
    Returns metrics (``prometheus_client.core.Metric``), in one query that reads a bounded number of rows. Called when
    Prometheus reads, outside of any transaction.
``alert_kinds()``
    Returns instances of ``notifications.extension.AlertKind``. Called once.
``overview_sections(model_admin, request)``
    Returns dicts, each in a bounded number of queries. Their ``"template"`` is included, with the dict as ``section``
    and the context of the page. Called for each request of the page.
"""

from __future__ import annotations

from typing import Any

from notifications.conf import cached_until_changed
from notifications.extension import hooks


@cached_until_changed("INSTALLED_APPS")
def read_alert_kinds() -> dict[str, Any]:
    """Return the kinds of alerts of other apps by their names."""
    return {kind.kind: kind for read in hooks.functions_of("operations", "alert_kinds") for kind in read()}
