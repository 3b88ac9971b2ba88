"""Which tasks are observed: by ``@observed``, or by the settings."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from notifications import conf, times
from notifications.contrib.celery import checks, declarations
from notifications.contrib.celery.observations import Observation, TaskCall
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


def test_a_name_that_is_no_argument_above_the_task(observed, monkeypatch, caplog):
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
    "options", [{"title": 3}, {"owner": 3}, {"url": 3}, {"notify": "yes"}, {"start_within": 0}]
)
def test_a_value_of_the_wrong_type_is_refused(observed, options):
    with pytest.raises(TypeError):
        observed(**options)


@pytest.mark.usefixtures("celery_app")
def test_time_within_which_a_task_is_to_start():
    """It counts from the eta, and Celery's own limit counts if it is earlier."""
    from notifications.contrib.celery.messages import Message, build_job

    now = times.now()
    hour = timedelta(hours=1)

    def expiry(start_within, **options):
        message = Message(id=str(uuid.uuid4()), name="shop.tasks.pay", args=(), kwargs={}, **options)
        job = build_job(None, message, Observation(start_within=start_within), now)
        return job.expires_at and job.expires_at - now

    assert (expiry(None), expiry(3600), expiry(hour)) == (None, hour, hour)
    assert expiry(hour, eta=now + hour) == 2 * hour
    assert expiry(hour, expires=now + hour / 2) == hour / 2
    assert expiry(None, expires=now + hour / 2) == hour / 2


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


@pytest.mark.parametrize("value", [{"task": {}}, {"tasks": []}, {"tasks": {3: {}}}, []])
def test_a_setting_of_another_form_is_refused(settings, value):
    settings.NOTIFICATIONS = {"CELERY": value}
    with pytest.raises(ImproperlyConfigured, match="CELERY"):
        _ = conf.settings.CELERY


def test_what_cannot_be_formatted_does_not_keep_a_task_from_being_published(caplog):
    def broken(*args):
        raise RuntimeError("host code")

    call = TaskCall("shop.tasks.export_year", None, (3,), {"year": "a b/c"})
    wrong = Observation(title="Export {nothing}", url=broken, owner=broken)
    assert (call.title(wrong), call.url(wrong), call.owner(wrong)) == ("Export year", "", None)
    assert caplog.text.count("shop.tasks.export_year") == 3
    assert call.url(Observation(url="/exports/{year}/")) == "/exports/a%20b%2Fc/"
    assert call.title(Observation(title="Export {year}" * 100)).endswith("…")


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
