"""What is stored of deliveries that are decided anew."""

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.contrib.deliveries import storing
from notifications.contrib.deliveries.models import Reader

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]


def test_pause_that_ends_while_a_delivery_is_postponed(notified, user):
    """The transaction reads the pause once more, with the row locked."""
    delivery = notified()
    Reader.objects.create(user_id=user.pk, paused_until=None)
    before = timezone.now()
    with transaction.atomic():
        storing.postpone_paused([delivery])
    delivery.refresh_from_db()
    assert before <= delivery.due_at <= timezone.now()
