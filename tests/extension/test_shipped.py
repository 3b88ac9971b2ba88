"""Errors for something of an optional app that is not installed name the line to add."""

import html
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import include, path, reverse

from notifications import api, conf, testing
from notifications.extension import Extension, shipped
from tests.support.checks import system_checks


def test_a_setting_of_an_app_that_is_not_installed(monkeypatch, settings):
    known = {key: setting for key, setting in conf.SETTINGS.items() if key != "SLACK"}
    monkeypatch.setattr(conf, "SETTINGS", known)
    settings.NOTIFICATIONS = {"SLACK": "", "TYPO": 1}
    missing, unknown = system_checks("E002")
    assert missing.hint == 'Add "notifications.contrib.chat" to INSTALLED_APPS, and run manage.py migrate.'
    assert unknown.hint.startswith("Known keys: ACTIVE_JOBS_PER_USER, ")


@pytest.mark.with_all_apps("their classes are compared with those of the apps")
def test_each_optional_app_is_found():
    """But not the adapters, which add nothing to the core."""
    installed = {
        config.name: type(config) for config in apps.get_app_configs() if isinstance(config, Extension)
    }
    assert shipped.shipped_extensions().items() >= {
        (name, found) for name, found in installed.items() if name.startswith("notifications.contrib.")
    }
    assert shipped.find_app_of_setting("SLACK") == "notifications.contrib.chat"
    assert shipped.find_app_of_subcommand("jobs output") == "notifications.contrib.output"
    assert shipped.find_app_of_setting("TYPO") == ""


def test_names_that_no_app_has():
    for module in (api, testing):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = module.nothing


class Shop(Extension):
    name = "notifications.contrib.shop"
    label = "notifications_shop"
    subcommands = {"sell": "shop.Sell", "jobs sell": "shop.SellJob"}


@pytest.mark.parametrize("arguments", [["sell"], ["sell", "--all", "1"], ["jobs", "sell", "--all"]])
def test_a_command_of_an_app_that_is_not_installed(arguments, monkeypatch):
    monkeypatch.setattr(shipped, "shipped_extensions", lambda: {Shop.name: Shop})
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
def read_error_page(client, monkeypatch, settings, tmp_path):
    """Return a function that returns Django's page for the error of a request."""
    settings.DEBUG, settings.ROOT_URLCONF = True, __name__
    client.raise_request_exception = False
    for folder, names in ((tmp_path / "shop", ("sell", "notification")), (tmp_path / "steps", ("buy",))):
        folder.joinpath("templatetags").mkdir(parents=True)
        folder.joinpath("__init__.py").touch()
        folder.joinpath("templatetags", f"notifications_{folder.name}.py").touch()
        folder.joinpath("urls.py").write_text("".join(f'path("", view, name="{name}")\n' for name in names))
    monkeypatch.setattr(import_module(shipped.PACKAGE), "__path__", [str(tmp_path)])

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
def test_each_name_of_a_url_is_found():
    """They are read as text: a name that is spelled otherwise would have no remedy."""
    for folder in shipped._folders():
        if folder.joinpath("urls.py").is_file():
            patterns = import_module(f"{shipped.PACKAGE}.{folder.name}.urls").urlpatterns
            assert all(shipped._has_url(folder, each.name) for each in patterns if each.name)
