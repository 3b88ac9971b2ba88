"""An attempt: what it opens, how it ends, and when the next one is."""

import pytest
from django.db import transaction

from notifications.api import notify
from notifications.contrib.deliveries import attempts
from notifications.contrib.deliveries.models import Delivery
from notifications.extension import hooks
from tests.contrib.deliveries.conftest import send_due

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]


def test_pauses_between_attempts():
    """They are over four hours in all."""
    pauses = [attempts.TemporaryError("", attempt).retry_after for attempt in range(1, 10)]
    assert 60 <= pauses[0] <= 90 and 120 <= pauses[1] <= 180 and 4 * 3600 < sum(pauses) < 6.2 * 3600
    assert attempts.TemporaryError("", 1, retry_after=3).retry_after >= attempts.FIRST_PAUSE_SECONDS


@pytest.mark.parametrize("retry_after", [None, 5000])
def test_messages_that_failed_together_do_not_come_back_together(retry_after):
    """Also if their server has told all of them the same time, before which none comes."""
    pauses = {attempts.TemporaryError("", 1, retry_after).retry_after for _ in range(100)}
    assert len(pauses) > 90 and min(pauses) >= (retry_after or 60)


def test_late_failure_changes_nothing_of_what_was_sent(notified):
    """Of an attempt that hung, and was started again meanwhile."""
    delivery = notified()
    send_due()
    attempts.end([delivery.id], "failed", error="too late")
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error) == ("sent", "")


def test_second_execution_decides_no_other_devices(user, service):
    """One that was taken over from a frozen worker has the row as it was before."""
    for _ in range(3):
        service.add_device(user)
    notify(user, "The export is ready")
    Delivery.objects.update(state="queued")
    decided = []

    def decide():
        reach, rows = (
            attempts.Reach(addresses=hooks.find_channel("push").addresses(user)),
            Delivery.objects.filter(id=id),
        )
        with transaction.atomic():
            decided.extend(attempts._decide(rows, reach, is_digest=False, is_resend=False))

    id = Delivery.objects.get().id
    decide()
    decide()
    first, second = (each.delivery for each in decided)
    assert first.address == second.address and Delivery.objects.count() == 3
