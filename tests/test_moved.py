"""Names of optional apps, for errors that name the line to add."""

import pytest
from django.core.management import CommandError, call_command

from notifications import api, conf, testing
from notifications.contrib.slack.apps import Slack
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
    assert set(Slack.settings) == {key for key, app in moved.SETTINGS.items() if app == "slack"}
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
