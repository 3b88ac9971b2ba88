"""Which tasks are observed: by ``@observed``, or by the settings."""

import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications import conf
from notifications.contrib.celery import declarations
from notifications.contrib.celery.observations import Observation
from notifications.jobs import results
from tests.support.celery_worker import require_celery

PATH = "tests.contrib.celery.tasks"


@pytest.fixture
def observed(celery_app):
    from notifications.contrib.celery import observed

    return observed


@pytest.mark.usefixtures("celery_app")
@pytest.mark.parametrize("name", ["add", "export"])
def test_the_decorator_stands_below_or_above_the_task(name):
    """``export`` has it above ``@shared_task``."""
    assert declarations.find(f"{PATH}.{name}").title.split()[0].lower() == name


@pytest.mark.usefixtures("celery_app")
def test_a_task_without_a_declaration():
    assert declarations.find(f"{PATH}.plain") is None
    assert declarations.find("nowhere.to.be.found") is None


@pytest.mark.parametrize(
    "options", [{"title": "Export {yaer}"}, {"owner": "usr"}, {"url": "/exports/{yaer}/"}, {"title": "{"}]
)
def test_a_name_that_is_no_argument_is_refused(observed, options):
    with pytest.raises(ValueError, match=r"names 'yaer'|names 'usr'|not a valid format string"):

        @observed(**options)
        def export(user, year):
            pass


@pytest.mark.parametrize(
    "options", [{"title": 3}, {"owner": 3}, {"url": 3}, {"notify": "yes"}, {"start_within": 0}]
)
def test_a_value_of_the_wrong_type_is_refused(observed, options):
    with pytest.raises(TypeError):
        observed(**options)


def test_only_a_task_can_be_observed(observed):
    with pytest.raises(TypeError, match="above or below @shared_task"):
        observed()(3)


def test_the_settings_name_tasks_and_patterns(settings):
    settings.NOTIFICATIONS = {
        "CELERY": {"tasks": {"shop.tasks.export": {"title": "Export"}, "shop.tasks.*": {"notify": False}}}
    }
    assert declarations.find("shop.tasks.export").title == "Export"
    assert declarations.find("shop.tasks.other").policy.notify is False
    assert declarations.find("shop.views.other") is None
    assert results.policy_at("shop.tasks.other").notify is False
    settings.NOTIFICATIONS = {"CELERY": {"tasks": {"shop.tasks.export": {"title": "Changed"}}}}
    assert declarations.find("shop.tasks.export").title == "Changed"


@pytest.mark.usefixtures("celery_app")
def test_the_settings_take_precedence(settings):
    settings.NOTIFICATIONS = {"CELERY": {"tasks": {f"{PATH}.add": {"title": "By setting"}}}}
    assert declarations.find(f"{PATH}.add").title == "By setting"


@pytest.mark.parametrize("value", [{"task": {}}, {"tasks": []}, {"tasks": {3: {}}}, []])
def test_a_setting_of_another_form_is_refused(settings, value):
    settings.NOTIFICATIONS = {"CELERY": value}
    with pytest.raises(ImproperlyConfigured, match="CELERY"):
        _ = conf.settings.CELERY


def test_two_threads_that_look_up_a_pending_task(monkeypatch):
    """One that is being declared is not missing for the other."""
    require_celery()
    is_reading, may_go_on, found = threading.Event(), threading.Event(), []

    class Task:
        @property
        def name(self):  # reading it finalizes the app
            is_reading.set()
            assert may_go_on.wait(30)
            return "shop.tasks.pending"

    observation = Observation(title="Pending")
    monkeypatch.setattr(declarations, "_pending", [(Task(), observation)])
    monkeypatch.setattr(declarations, "_declared", {})

    def look_up():
        found.append(declarations.find("shop.tasks.pending"))

    threads = [threading.Thread(target=look_up) for _ in range(2)]
    threads[0].start()
    assert is_reading.wait(30)
    threads[1].start()
    threads[1].join(0.2)
    may_go_on.set()
    for thread in threads:
        thread.join(30)
    assert found == [observation, observation]
