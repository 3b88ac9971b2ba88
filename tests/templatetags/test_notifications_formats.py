"""How templates write numbers."""

import pytest
from django.utils import translation

from notifications.templatetags.notifications_formats import rate


@pytest.mark.parametrize(
    ("per_minute", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (1 / 10_080, "<0.01"),
        (1 / 60, "0.02"),
        (0.4, "0.4"),
        (0.96, "1"),
        (3, "3"),
        (9.94, "9.9"),
        (12.4, "12"),
        (12_345.6, "12,346"),
    ],
)
def test_rate(per_minute, text):
    """A rate above 0 is never shown as 0: a single job in an hour is not none."""
    assert rate(per_minute) == text


def test_rate_in_german():
    with translation.override("de"):
        assert (rate(0.4), rate(1 / 60), rate(0.001)) == ("0,4", "0,02", "<0,01")
