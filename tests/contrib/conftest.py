"""The project in which an optional app is not installed."""

import pytest

from notifications.jobs import notifying
from tests.docs.project import Project

URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("notifications/", include("notifications.urls"))]
"""


@pytest.fixture
def project(tmp_path):
    """The project of the quick start, with the admin and without an embedded worker."""
    project = Project(tmp_path)
    project.add_settings('ALLOWED_HOSTS = ["*"]\nNOTIFICATIONS = {"EMBEDDED_WORKER": False}\n')
    (project.folder / "mysite/urls.py").write_text(URLS)
    yield project
    project.close()


@pytest.fixture
def short_pauses(set_bounds):
    """Have an answer that the database does not take be recorded again soon."""
    set_bounds(retries=0.01)


@pytest.fixture
def frequent_sending(set_bounds):
    """Have processes look for due deliveries ten times a second."""
    set_bounds(deliveries=0.1)


@pytest.fixture
def set_rows_per_transaction(monkeypatch, set_bounds):
    """set_rows_per_transaction(rows) bounds the rows that one transaction inserts.

    As after a first one: it is known how many jobs handlers and webhooks add to a notification.
    """

    def set(rows, *, jobs_per_notification=0.0):
        set_bounds(rows=rows)
        monkeypatch.setitem(notifying.jobs_added, "notifications", jobs_per_notification)

    return set
