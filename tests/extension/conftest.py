"""Fixtures for tests of extensions."""

import pytest

from notifications import conf, extension, testing
from notifications.extension.installed import Hooks
from tests.extension.recorder import Recorder
from tests.extension.shop import Shop


@pytest.fixture
def recorder(transactional_db, monkeypatch):
    """An extension that is installed beside those of the app."""
    recorder, installed = Recorder(), extension.hooks
    monkeypatch.setattr(installed, "__dict__", Hooks([*installed.extensions, recorder]).__dict__)
    return recorder


@pytest.fixture
def shop(monkeypatch):
    """An extension that is installed beside those of the app."""
    shop, installed = Shop(Shop.name, testing), extension.hooks
    monkeypatch.setattr(conf, "SETTINGS", conf.SETTINGS)
    monkeypatch.setattr(installed, "__dict__", dict(installed.__dict__))
    others = extension.extensions()
    monkeypatch.setattr(extension.installed, "extensions", lambda: [*others, shop])
    extension.load()
    return shop
