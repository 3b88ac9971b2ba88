"""The row by which the overview lists a server process."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.models import ServerProcess, uuid7
from notifications.realtime.connections import ServerRow


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("days", [-1, 3650], ids=["ended", "of a fast clock"])
def test_rows_of_ended_processes_are_deleted(days):
    """A lease that a fast clock has stored is not believed."""
    now = timezone.now()
    lease = {"started_at": now, "lease_until": now + timedelta(days=days)}
    ServerProcess.objects.create(id=uuid7(), host="web", pid=1, **lease)
    row = ServerRow()
    row.renew(sockets=0, users=0)
    assert ServerProcess.objects.get().id == row.id
