"""What is read from the head of a response."""

import pytest
from multidict import CIMultiDict

from notifications.contrib.rates.corrections import DEFAULT_SECONDS, read

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, None),
        (503, {}, None),
        (429, {}, (None, DEFAULT_SECONDS)),
        (429, {"Retry-After": "30"}, (None, 30)),
        (503, {"Retry-After": "7"}, (None, 7)),
        (200, {"Retry-After": "7"}, None),
        (200, {"RateLimit": '"default";r=50;t=30'}, (50, 30)),
        (200, {"RateLimit": '"default";r=0;t=30'}, (None, 30)),
        (200, {"RateLimit": '"a";r=9;t=1, "b";r=3;t=60'}, (3, 60)),
        (200, {"RateLimit": '"b";r=3;t=60, "a";r=9;t=1'}, (3, 60)),
        (200, {"RateLimit": '"a";r=0;t=5, "b";r=0;t=60, "c";r=2;t=1'}, (None, 60)),
        (200, {"RateLimit": '"a";r=0', "RateLimit-Policy": '"a";q=100;w=20'}, (None, 20)),
        (200, {"RateLimit": '"a";r=0'}, (0, 0)),
        (200, {"RateLimit": '"a";r=-1;t=x, garbage'}, None),
        (200, {"RateLimit": '"' * 5_000}, None),
    ],
)
def test_each_field(status, headers, expected):
    retry_after = headers.get("Retry-After")
    found = read(status, CIMultiDict(headers), retry_after and float(retry_after))
    assert (found and (found.left, found.seconds)) == expected
