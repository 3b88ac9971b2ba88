"""The app of Celery that a project connects."""

import pytest

from notifications.contrib.celery import app as app_module

kombu = pytest.importorskip("kombu", reason="Celery is not installed (pip install celery).")
celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")


def test_app_that_is_not_connected(monkeypatch):
    monkeypatch.setattr(app_module, "_connected_app", None)
    with pytest.raises(app_module.ImproperlyConfigured, match=r"connect\(app\)"):
        app_module.celery_app()
