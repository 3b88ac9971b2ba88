"""Extensions that are installed for the length of a test."""

from notifications import extension
from notifications.extension.installed import Hooks


def install(monkeypatch, *extensions):
    """Have the hooks of these extensions be called beside those of the installed apps."""
    hooks = extension.hooks
    monkeypatch.setattr(hooks, "__dict__", Hooks([*hooks.extensions, *extensions]).__dict__)


def set_channels(monkeypatch, **channels):
    """Have these be the channels of all installed apps: the paths of their classes, by name."""
    monkeypatch.setattr(extension.hooks, "channels", channels)


def set_wait_kind(monkeypatch, name, kind):
    """Have waits of this name be of this kind."""
    monkeypatch.setitem(extension.hooks.wait_kinds, name, kind)


def load(monkeypatch, *extensions):
    """Load these extensions and no others, as at the start of a process. Raises ``ImproperlyConfigured``."""
    monkeypatch.setattr(extension.hooks, "__dict__", dict(extension.hooks.__dict__))
    monkeypatch.setattr(extension.installed, "extensions", lambda: extensions)
    extension.installed.load()
