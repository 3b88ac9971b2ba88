"""Keep what Django has read of the URLs when a test chooses others.

Django forgets all of it whenever ROOT_URLCONF changes, and to read the URLs of the site again is a third of the time of
a test that loads pages. The modules that are named here do not change while the tests run.
"""

from django.core.signals import setting_changed
from django.test import signals
from django.urls import clear_url_caches, set_urlconf

KEPT = {"asyncsite.urls", "tests.core_urls", "tests.http.views"}

#: Whether the URLs are those of a module, or of an object, that is not kept.
_are_others = False


def install():
    """Forget the URLs only after those that are not kept."""
    setting_changed.disconnect(signals.root_urlconf_changed)
    setting_changed.connect(_change_urls)


def _change_urls(*, setting, value, **kwargs):
    global _are_others
    if setting == "ROOT_URLCONF":
        were_others, _are_others = _are_others, value not in KEPT
        if were_others or _are_others:
            clear_url_caches()
        set_urlconf(None)
