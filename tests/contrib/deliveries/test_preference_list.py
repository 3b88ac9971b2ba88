"""The list of preferences in the admin, which may have a million rows."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.contrib.deliveries.models import Preference

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications_deliveries/preference/"


def listed(response):
    return [row.category for row in response.context["cl"].result_list]


def test_pages_and_the_user_of_a_row(admin_client, make_user):
    """Pages begin after a row. The rows of a user are looked up by the index of users, in each slice of no table."""
    bob, ada = make_user("bob"), make_user("ada")
    values = {"channel": "email", "choice": "off", "changed_at": "2026-01-01T00:00Z"}
    rows = [("a", ada), *((f"b{number:02}", bob) for number in range(60))]
    Preference.objects.bulk_create([Preference(user=user, category=name, **values) for name, user in rows])
    first = admin_client.get(LIST)
    older = re.search(r'href="([^"]*)" rel="next"', first.text)[1].replace("&amp;", "&")
    second = admin_client.get(LIST + older)
    assert listed(first) + listed(second) == [name for name, _ in reversed(rows)]
    with CaptureQueriesContext(connection) as queries:
        of_ada = admin_client.get(f"{LIST}?user=ada")
    assert listed(of_ada) == ["a"] and "By user" in of_ada.text
    assert any(f'"user_id" = {ada.pk} ORDER BY' in query["sql"] for query in queries)
    assert listed(admin_client.get(f"{LIST}?user=nobody")) == []
