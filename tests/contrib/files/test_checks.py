"""What `check` says of the setting and the storage."""

import pytest
from django.core.files.storage import Storage

from notifications.contrib.files.checks import check_files


class Remote(Storage):
    pass


@pytest.fixture
def use_storage(settings, tmp_path):
    def use(location=None):
        backend = {"BACKEND": f"{__name__}.Remote"}
        if location:
            backend = {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": tmp_path / location},
            }
        settings.STORAGES = {**settings.STORAGES, "notifications_files": backend}

    return use


def found():
    return [message.id.removeprefix("notifications.") for message in check_files(None)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_bytes": 5 * 1024**3, "keep_days": 0.5},
        {"send_by": "X-Accel-Redirect", "internal_url": "/protected/"},
        {"send_by": "X-Sendfile"},
    ],
)
def test_right_options(configure, options):
    configure(**options)
    assert found() == []


@pytest.mark.parametrize(
    "options",
    [
        {"storage": "missing"},
        {"unknown": 1},
        {"max_bytes": 0},
        {"max_bytes": True},
        {"keep_days": 2**50},
        {"keep_days": "7"},
        {"send_by": "nginx"},
        {"send_by": "X-Accel-Redirect"},
        {"send_by": "X-Accel-Redirect", "internal_url": "/protected"},
        {"send_by": "redirect"},
    ],
)
def test_wrong_options(configure, options):
    configure(**options)
    assert found() == ["E016"]


def test_a_setting_that_is_no_dict(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "FILES": ["storage"]}
    assert found() == ["E016"]


@pytest.mark.parametrize(("send_by", "ids"), [("response", []), ("redirect", []), ("X-Sendfile", ["E016"])])
def test_a_storage_on_other_machines(configure, use_storage, send_by, ids):
    use_storage()
    configure(send_by=send_by)
    assert found() == ids


@pytest.mark.parametrize(
    ("location", "ids"),
    [("media", ["W054"]), ("media/files", ["W054"]), ("media2", []), ("x/../media/y", ["W054"])],
)
def test_a_storage_that_everybody_reads(settings, tmp_path, use_storage, location, ids):
    settings.MEDIA_ROOT = tmp_path / "media"
    use_storage(location)
    assert found() == ids


def test_without_a_storage_of_its_own(settings, tmp_path):
    settings.STORAGES = {
        name: each for name, each in settings.STORAGES.items() if name != "notifications_files"
    }
    settings.BASE_DIR = tmp_path
    assert found() == []
    del settings.BASE_DIR
    [error] = check_files(None)
    assert error.id == "notifications.E016" and "STORAGES" in error.hint
