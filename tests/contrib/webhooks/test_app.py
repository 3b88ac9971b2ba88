"""The app: what it says of its tasks, and what its package exports."""

import subprocess
import sys

import pytest
from django.apps import apps
from django.utils.module_loading import import_string

from notifications.contrib import webhooks
from notifications.extension import OwnTask, hooks

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

#: Their paths are stored with jobs, so they stay.
TASKS = ("notifications.contrib.webhooks.sending.send", "notifications.contrib.webhooks.calling.call")


def test_what_is_true_of_its_tasks():
    """They raise no events, call no code of the project, and fail with the servers of others."""
    expected = OwnTask(is_silent=True, is_harmless=True, fails_with_receivers=True)
    tasks = apps.get_app_config("notifications_webhooks").tasks
    assert tasks == dict.fromkeys(TASKS, expected)
    for path in tasks:
        assert import_string(path).module_path == path
        assert hooks.own_tasks[path] == expected


def test_its_kind_of_waits():
    assert (
        hooks.wait_kinds["callback"].label
        == apps.get_app_config("notifications_webhooks").wait_kinds[0].label
    )


@pytest.mark.parametrize("name", webhooks.__all__)
def test_exports(name):
    assert getattr(webhooks, name).__name__ == name and name in dir(webhooks)


def test_a_name_that_is_not_exported():
    with pytest.raises(AttributeError, match="no attribute 'send'"):
        _ = webhooks.send


def test_the_package_imports_no_models():
    """Modules with tasks import it before the models are ready; aiohttp and the library of signatures come later."""
    late = ("notifications.models", "aiohttp", "standardwebhooks")
    code = f"""if True:
        import sys
        from django.conf import settings
        settings.configure()
        import notifications.contrib.webhooks
        print([name for name in {late} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
