"""Read the incidents that pages show."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.db import connection, database
from notifications.extension import hooks

#: Incidents that are read at most, the newest.
MAX_INCIDENTS_READ = 200
#: Users who are counted at most.
MAX_USERS_COUNTED = 10_000


def read_incidents(
    keys: Iterable[str], since: datetime, until: datetime | None = None, *, with_deliveries: bool = False
) -> dict[str, Incident]:
    """Return the last incident of each of these errors, and of those that went on within a time, by their keys."""
    within = Q(failed_at__gte=since) if until is None else Q(failed_at__gte=since, begun_at__lte=until)
    rows = Incident.objects.using(database()).filter(within | Q(key__in=list(keys)))
    found = {incident.key: incident for incident in reversed(rows.order_by("-id")[:MAX_INCIDENTS_READ])}
    hidden = () if with_deliveries else hooks.own_tasks
    return {key: incident for key, incident in found.items() if incident.task_path not in hidden}


def find_incident(id: str) -> Incident | None:
    """Return the incident with an id, which may be any text."""
    if not (id.isdecimal() and len(id) < 19):
        return None
    return Incident.objects.using(database()).filter(pk=int(id)).first()


def count_not_notified(incidents: Iterable[Incident]) -> dict[int, int]:
    """Return, by id, how many users were recorded since those affected were notified, and were not deleted since.

    Of each incident at most ``MAX_USERS_COUNTED`` are counted, in one query; in none if none was recorded since then.
    """
    counted = [incident for incident in incidents if incident.last_user > incident.last_notified]
    if not counted:
        return {}
    count = (
        f"SELECT {{}}, count(*) FROM (SELECT 1 FROM {AffectedUser._meta.db_table} "
        f"WHERE incident_id = %s AND id > %s LIMIT {MAX_USERS_COUNTED}) AS counted"
    )
    with connection().cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(count.format(incident.pk) for incident in counted),
            [value for incident in counted for value in (incident.pk, incident.last_notified)],
        )
        return dict(cursor.fetchall())
