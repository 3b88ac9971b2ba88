"""The metrics of rates for Prometheus."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from notifications.contrib.rates import metrics
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import claim_all
from tests.contrib.rates.test_pages import close

pytestmark = pytest.mark.django_db


def test_what_a_limit_has_allowed_and_whether_it_is_closed(declare):
    declare(partner="1/m", other="100/m")
    rated_tasks.fetch.enqueue()
    rated_tasks.fetch.enqueue()
    claim_all()
    close()
    registry = CollectorRegistry()
    registry.register(type("Rates", (), {"collect": staticmethod(metrics.collect)})())
    text = generate_latest(registry).decode()
    assert 'notifications_rate_closed{key="partner"} 1.0' in text
    assert 'notifications_rate_used_total{key="partner"} 1.0' in text
    assert 'notifications_rate_window_used{key="partner"} 1.0' in text
    assert 'notifications_rate_window_limit{key="partner"} 1.0' in text
    assert 'notifications_rate_waiting{key="partner"} 1.0' in text
    assert re.search(r'notifications_rate_waiting_seconds\{key="partner"\} (119|120|12[0-9])', text)
    assert 'notifications_rate_window_limit{key="other"} 100.0' in text
