"""The metrics of rates for Prometheus."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from notifications.contrib.rates import metrics
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import claim_all
from tests.contrib.rates.test_pages import close

pytestmark = pytest.mark.django_db


def test_what_a_limit_has_allowed_and_whether_it_is_closed(declare):
    declare(partner="1/m")
    rated_tasks.fetch.enqueue()
    claim_all()
    close()
    registry = CollectorRegistry()
    registry.register(type("Rates", (), {"collect": staticmethod(metrics.collect)})())
    text = generate_latest(registry).decode()
    assert 'notifications_rate_closed{key="partner"} 1.0' in text
    assert 'notifications_rate_used_total{key="partner"} 1.0' in text
