"""Which URLs of requests may be called when their jobs end: those of the origins that the project allows."""

from __future__ import annotations

from django.utils.translation import gettext

from notifications.conf import settings

from .guard import Forbidden, check_target, parse


def check_callback_url(url: str) -> None:
    """Raise ``Forbidden`` for a URL that is not of one of ``CALLBACK_ORIGINS``, or that may not be called."""
    target = parse(url)
    if target.origin not in {parse(origin).origin for origin in settings.CALLBACK_ORIGINS}:
        raise Forbidden(gettext("its scheme, host and port are not among those that this site allows"))
    check_target(target)
