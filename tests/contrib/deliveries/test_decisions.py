"""What is decided from what is read of deliveries."""

import pytest
from django.db import connection

from notifications.contrib.deliveries import decisions
from notifications.contrib.deliveries.models import Delivery

pytestmark = pytest.mark.django_db(transaction=True)


def test_facts_are_read_in_four_queries(notified, django_assert_num_queries):
    for number in range(20):
        notified(f"note {number}")
    rows = list(Delivery.objects.all())
    # PostgreSQL is asked for its time too.
    with django_assert_num_queries(4 + (connection.vendor == "postgresql")):
        decisions.read_facts(rows)
