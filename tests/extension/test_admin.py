"""What apps add to the core's admin: classes from which its admins inherit."""

import re

import pytest
from django.contrib import admin
from django.contrib.admin.sites import AdminSite
from django.http import HttpResponse
from django.template import engines
from django.utils.html import format_html

from notifications import api
from notifications.admin import (
    JobAdmin,
    ListFilter,
    ModelAdminBase,
    NotificationAdmin,
    add_filters,
    extend,
)
from notifications.models import Job, Notification
from tests.jobs import tasks
from tests.support.admins import own_bases

pytestmark = pytest.mark.nightly_on_postgres


class OfAda(admin.SimpleListFilter):
    title, parameter_name = "reader", "of"

    def lookups(self, request, model_admin):
        return [("ada", "Ada alone")]

    def queryset(self, request, queryset):
        return queryset.filter(user__username=self.value()) if self.value() else queryset


class Loudness(ListFilter):
    """Takes the place of the core's filter by level, and has only the newest row read."""

    title, parameter_name = "loudness", "level"

    def lookups(self, request, model_admin):
        return [("loud", "Loud")]

    def queryset(self, request, queryset):
        return queryset

    def narrow(self, request, changelist, rows, slices_of):
        if not self.value():
            return rows, changelist.root_queryset
        return rows.filter(pk__in=list(rows.order_by("-id").values_list("pk", flat=True)[:1])), None

    def row_check(self):
        return lambda ids: (
            Notification.objects.filter(pk__in=ids).exclude(title="Hidden").values_list("pk", flat=True)
        )


PAGES = "/admin/notifications/notification/"


class WithRecords(ModelAdminBase):
    def get_list_filter(self, request):
        return add_filters(super().get_list_filter(request), [OfAda, Loudness])

    def list_links(self, request):
        return [*super().list_links(request), ("Write & send", f"/of/{request.user.pk}/")]

    def get_fields(self, request, obj=None):
        return [*super().get_fields(request, obj), "origin"]

    def origin(self, row):
        return format_html('<a href="/of/{}/">Its origin</a>', row.pk)

    def render_change_form(self, request, context, *args, **kwargs):
        template = engines["django"].from_string("<b>Part of {{ section }}</b>").template
        context.setdefault("sections", []).append((template, kwargs["obj"].pk))
        return super().render_change_form(request, context, *args, **kwargs)


@pytest.fixture
def extended():
    with own_bases():
        extend(NotificationAdmin)(WithRecords)
        yield


def test_the_admins_pages_of_notifications(user, admin_client, extended):
    """A filter beside the list, which filters, a link above it, and a link and a section on each page of one."""
    (id,) = api.notify(user, "Hello")
    page = admin_client.get(PAGES).text
    assert "Ada alone" in page and re.search(r'<a href="/of/\d+/"[^>]*>Write &amp; send</a>', page)
    assert "Hello" not in admin_client.get(f"{PAGES}?of=bob").text
    page = admin_client.get(f"{PAGES}{id}/change/").text
    assert f'<a href="/of/{id}/">Its origin</a>' in page and f"<b>Part of {id}</b>" in page


def test_an_admin_of_a_project(extended, rf, admin_user):
    """It inherits what apps add, whenever it was declared."""

    class ProjectAdmin(NotificationAdmin):
        pass

    request = rf.get("/")
    request.user = admin_user
    assert OfAda in ProjectAdmin(Notification, AdminSite()).get_list_filter(request)


def test_a_filter_in_place_of_one_of_the_core(user, admin_client, extended):
    """It narrows what the list reads, and checks the rows."""
    for title in ("Old", "New", "Hidden"):
        api.notify(user, title)
    page = admin_client.get(PAGES)
    assert "By loudness" in page.text and "By level" not in page.text
    assert [row.title for row in page.context["cl"].result_list] == ["New", "Old"]
    Notification.objects.filter(title="Hidden").delete()
    page = admin_client.get(f"{PAGES}?level=loud")
    assert [row.title for row in page.context["cl"].result_list] == ["New"]


def test_a_filter_of_a_project_is_kept(user, admin_client, extended, monkeypatch):
    """The app's filter of the same parameter is left out: it would be shown, and have no effect."""

    class ProjectLevelFilter(Loudness):
        title = "importance"

    monkeypatch.setattr(NotificationAdmin, "list_filter", ("user", ProjectLevelFilter))
    page = admin_client.get(f"{PAGES}?level=error")
    assert page.status_code == 200
    assert "By importance" in page.text and "By loudness" not in page.text


def test_an_action_for_all_rows(transactional_db, admin_client):
    """Not one for rows of the page. The core refuses it, and names the command."""
    jobs = [tasks.noop.enqueue().id for _ in range(2)]
    form = {"action": "cancel_jobs", "_selected_action": jobs[:1]}
    admin_client.post("/admin/notifications/job/", form)
    form["select_across"] = "1"
    with own_bases(with_apps=False):
        for action in ("cancel_jobs", "reschedule_jobs"):
            page = admin_client.post("/admin/notifications/job/", {**form, "action": action}, follow=True)
            *_, message = page.context["messages"]
            assert "All jobs that match are changed by manage.py notifications jobs." in str(message)
        extend(JobAdmin)(type("All", (), {"change_all": lambda self, request, action: HttpResponse(action)}))
        assert admin_client.post("/admin/notifications/job/", form).text == "cancel_jobs"
    assert [str(job.pk) for job in Job.objects.filter(state="cancelled")] == jobs[:1]
