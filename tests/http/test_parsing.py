"""What is read of a request."""

import pytest
from django.test import RequestFactory

from notifications.http.parsing import read_header


@pytest.mark.parametrize(("size", "is_read"), [(2048, True), (2049, False)])
def test_long_header_counts_as_absent(size, is_read):
    assert bool(read_header(RequestFactory().get("/", headers={"X": "a" * size}), "X")) is is_read
