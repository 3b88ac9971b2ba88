"""A private storage of files."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.files.models import StoredObject
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.duties import run_duty


@pytest.fixture(autouse=True)
def storage_path(settings, tmp_path):
    """Files are stored here."""
    path = tmp_path / "files"
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": path}}
    settings.STORAGES = {**settings.STORAGES, "notifications_files": backend}
    return path


@pytest.fixture
def stored(storage_path):
    """stored() returns the texts of the objects in the storage."""
    return lambda: sorted(path.read_bytes().decode() for path in storage_path.rglob("*") if path.is_file())


@pytest.fixture
def configure(settings):
    """configure(**options) sets ``FILES``."""

    def configure(**options):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "FILES": options}

    return configure


@pytest.fixture
def remove():
    """remove() does the duty once for all objects, which are due."""

    def remove():
        StoredObject.objects.update(check_at=timezone.now() - timedelta(seconds=1))
        run_duty("remove files")

    return remove
