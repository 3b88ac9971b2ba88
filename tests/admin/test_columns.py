"""Columns of times, in admins of projects that name them in Django's options."""

import re

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.utils import timezone

from notifications.admin import OwnedMixin
from notifications.models import Notification

pytestmark = pytest.mark.django_db(transaction=True)


class Admin(OwnedMixin, ModelAdmin):
    list_display = ("title", "created_at", "read_at")

    def get_list_display(self, request):
        columns = list(super().get_list_display(request))
        columns.insert(columns.index("read_at"), "level")
        return columns


@pytest.fixture
def show(rf, admin_user):
    """Return a function that returns the list of an admin with some options, as HTML."""
    Notification.objects.create(title="Hello", user=admin_user, created_at=timezone.now())

    def show(**options):
        request = rf.get("/")
        request.user = admin_user
        return (
            type("Shown", (Admin,), options)(Notification, AdminSite()).changelist_view(request).render().text
        )

    return show


def test_a_time_is_a_link(show):
    [cell] = re.findall(
        r'class="field-created_at[^"]*">(.*?)</t[hd]>', show(list_display_links=["created_at"])
    )
    assert re.match('<a href="[^"]*"><time datetime=', cell)
    assert (
        "<a "
        not in re.findall(r'class="field-title[^"]*">(.*?)</td>', show(list_display_links=["created_at"]))[0]
    )


def test_a_list_is_sorted_by_a_time(show):
    def sortable(**options):
        return re.findall(r'class="sortable column-(\w+)', show(**options))

    assert sortable(sortable_by=["created_at"]) == ["created_at"]
    assert sortable() == ["title", "created_at", "level", "read_at"]
    assert sortable(sortable_by=()) == []
