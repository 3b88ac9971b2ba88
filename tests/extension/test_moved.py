"""Names of optional apps, for errors that name the line to add."""

import html
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import include, path, reverse

from notifications import api, conf, testing
from notifications.extension import moved
from tests.support.checks import system_checks


def test_a_setting_of_an_app_that_is_not_installed(monkeypatch, settings):
    known = {key: setting for key, setting in conf.SETTINGS.items() if key != "SLACK"}
    monkeypatch.setattr(conf, "SETTINGS", known)
    settings.NOTIFICATIONS = {"SLACK": "", "TYPO": 1}
    missing, unknown = system_checks("E002")
    assert missing.hint == 'Add "notifications.contrib.slack" to INSTALLED_APPS, and run manage.py migrate.'
    assert unknown.hint.startswith("Known keys: ACTIVE_JOBS_PER_USER, ")


def test_names_of_the_table_belong_to_the_app():
    assert set(apps.get_app_config("notifications_slack").settings) == {
        key for key, app in moved.SETTINGS.items() if app == "slack"
    }
    for name in moved.API_NAMES:
        assert getattr(api, name)
    for name in moved.TESTING_NAMES:
        assert getattr(testing, name)
    for module in (api, testing):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = module.nothing


@pytest.mark.parametrize("arguments", [["sell"], ["sell", "--all", "1"], ["jobs", "sell", "--all"]])
def test_a_command_of_an_app_that_is_not_installed(arguments, monkeypatch):
    monkeypatch.setattr(moved, "SUBCOMMANDS", {"sell": "shop", "jobs sell": "shop"})
    with pytest.raises(CommandError, match=r'Add "notifications\.contrib\.shop" to INSTALLED_APPS'):
        call_command("notifications", *arguments)


def load_tags(request):
    return HttpResponse(Template("{% load notifications_shop %}").render(Context()))


def link_page(request):
    return HttpResponse(reverse(request.GET["name"]))


urlpatterns = [
    path("load/", load_tags),
    path("link/", link_page),
    path("notifications/", include("notifications.urls")),
]


@pytest.fixture
def read_error_page(client, monkeypatch, settings):
    """Return a function that returns Django's page for the error of a request."""
    settings.DEBUG, settings.ROOT_URLCONF = True, __name__
    client.raise_request_exception = False
    monkeypatch.setattr(moved, "TAG_LIBRARIES", {"notifications_shop": "shop"})
    monkeypatch.setattr(moved, "URL_NAMES", {"sell": "shop", "notification": "shop", "buy": "steps"})

    def read(address):
        response = client.get(address)
        assert response.status_code == 500
        return html.unescape(response.content.decode())

    return read


@pytest.mark.parametrize("address", ["/load/", "/link/?name=notifications:sell"])
def test_tags_and_addresses_of_an_app_that_is_not_installed(address, read_error_page, caplog):
    """The line to add stands in the log and on Django's page for errors."""
    remedy = 'Add "notifications.contrib.shop" to INSTALLED_APPS, and run manage.py migrate.'
    assert remedy in read_error_page(address) and remedy in caplog.text


@pytest.mark.with_all_apps("one of the names is that of an app that is installed")
@pytest.mark.parametrize("name", ["nothing", "notifications:notification", "notifications:buy"])
def test_other_errors_of_addresses_have_no_note(name, read_error_page, caplog):
    """Such as one of the project, a lack of arguments, and a name of an app that is installed."""
    read_error_page(f"/link/?name={name}")
    assert "NoReverseMatch" in caplog.text and "INSTALLED_APPS, and" not in caplog.text


@pytest.mark.with_all_apps("their modules of URLs are imported")
def test_tags_and_addresses_belong_to_the_app():
    folders = Path(moved.__file__).parent.parent.joinpath("contrib")
    assert {
        file.stem: file.parent.parent.name for file in folders.glob("*/templatetags/notifications_*.py")
    } == moved.TAG_LIBRARIES
    names = {
        pattern.name: file.parent.name
        for file in folders.glob("*/urls.py")
        for pattern in import_module(f"notifications.contrib.{file.parent.name}.urls").urlpatterns
        if pattern.name
    }
    assert names == moved.URL_NAMES
