"""What checks say of declarations, and a worker logs."""

import pytest
from django.apps import apps

from notifications.contrib.celery import checks, declarations
from notifications.contrib.celery.observations import Observation
from tests.contrib.celery.test_declarations import PATH, observed  # noqa: F401
from tests.support.celery_worker import require_celery


def test_a_name_that_is_no_argument_above_the_task(observed, monkeypatch, caplog):  # noqa: F811
    """Its name is not known when it is declared, so that it is an error of ``check`` and of the log."""
    from celery import shared_task

    monkeypatch.setattr(declarations, "_problems", {})

    @observed(title="Export {year}", owner="usr")
    @shared_task(name="wrong.export")
    def export(user, year):
        pass

    [error] = checks.check_observed_tasks(None)
    problem = "The owner '{usr}' of task export names 'usr'. It may name: user, year."
    assert (error.id, error.msg) == (
        "notifications.W010",
        f"@observed of Celery task wrong.export: {problem}",
    )
    assert f"Wrong @observed of Celery task wrong.export: {problem}" in caplog.text


@pytest.mark.usefixtures("celery_app")
def test_an_app_that_is_not_finalized_yet(monkeypatch):
    """With ``autofinalize=False`` the names of its tasks cannot be read."""

    class Task:
        @property
        def name(self):
            raise RuntimeError("Contract breach: app not finalized")

    monkeypatch.setattr(declarations, "_pending", [(Task(), Observation())])
    assert checks.check_observed_tasks(None) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"titel": "x"}, "unknown key 'titel'. Known keys: title, owner, url, notify"),
        ("Export", "must be a dict"),
        ({"owner": 3}, "owner must be the name of the argument"),
    ],
)
def test_wrong_options_are_an_error_of_check(settings, options, words):
    require_celery()
    import notifications.contrib.celery  # noqa: F401

    settings.NOTIFICATIONS = {"CELERY": {"tasks": {"shop.tasks.export": options}}}
    [error] = checks.check_observed_tasks(None)
    assert (error.id, words in error.msg) == ("notifications.W010", True)
    assert declarations.find("shop.tasks.export") is None


@pytest.mark.usefixtures("celery_app")
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "export",
            {"title": "Export {yaer}"},
            "'Export {yaer}' of task export names 'yaer'. It may name: user_id",
        ),
        ("export", {"owner": "usr"}, "names 'usr'"),
        ("expor*", {"url": "/exports/{yaer}/"}, "names 'yaer'"),
        ("export", {"title": "{"}, "not a valid format string"),
    ],
)
def test_options_that_name_no_argument_are_an_error_of_check_and_of_a_worker(
    settings, caplog, name, options, words
):
    settings.NOTIFICATIONS = {"CELERY": {"tasks": {f"{PATH}.{name}": options}}}
    [error] = checks.check_observed_tasks(None)
    assert (error.id, words in error.msg) == ("notifications.W010", True)
    checks.log_problems([f"{PATH}.export"])
    assert words in caplog.text


@pytest.mark.usefixtures("celery_app")
def test_right_options_and_tasks_that_are_not_known_are_no_error(settings, caplog):
    settings.NOTIFICATIONS = {
        "CELERY": {
            "tasks": {
                f"{PATH}.export": {"title": "{year}", "owner": "user_id"},
                f"{PATH}.fail": {"owner": lambda *args: None},
                "no.such.task": {"title": "{a}"},
            }
        }
    }
    assert checks.check_observed_tasks(None) == []
    checks.log_problems([f"{PATH}.export", f"{PATH}.fail"])
    assert [record.args for record in caplog.records] == [("no.such.task",)]


def test_an_app_that_is_imported_only_is_a_warning_of_check(monkeypatch):
    assert checks.check_installed(None) == []
    monkeypatch.setattr(apps, "is_installed", lambda name: False)
    [warning] = checks.check_installed(None)
    assert warning.id == "notifications.W004"
    assert warning.hint.startswith('Add "notifications.contrib.celery" to INSTALLED_APPS')
