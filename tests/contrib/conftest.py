"""The project in which an optional app is not installed."""

import pytest

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
