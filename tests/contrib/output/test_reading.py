"""How output is read."""

import re

import pytest
from django.test.utils import CaptureQueriesContext

from notifications.contrib.output import reading
from notifications.db import connection
from tests.contrib.output.test_views import job, write  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def test_queries(user_client, job):  # noqa: F811
    """Reading at the end of an output of many chunks reads none of them."""
    for number in range(30):
        write(job, f"{number}\n")
    with CaptureQueriesContext(connection()) as queries:
        parts = reading.read_parts(job.user_id, job.pk, {80})
    assert parts[80].data == b""
    assert len(queries) == 2
    assert not re.search("arguments|kwargs", str(queries.captured_queries))
