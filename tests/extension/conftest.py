"""Fixtures for tests of extensions."""

import pytest

from notifications import conf, extension, testing
from tests.extension.recorder import Recorder
from tests.extension.shop import Shop
from tests.support.extensions import install, load


@pytest.fixture
def recorder(transactional_db, monkeypatch):
    """An extension that is installed beside those of the app."""
    recorder = Recorder()
    install(monkeypatch, recorder)
    return recorder


@pytest.fixture
def shop(monkeypatch):
    """An extension that is installed beside those of the app."""
    shop = Shop(Shop.name, testing)
    monkeypatch.setattr(conf, "SETTINGS", conf.SETTINGS)
    load(monkeypatch, *extension.hooks.extensions, shop)
    return shop
