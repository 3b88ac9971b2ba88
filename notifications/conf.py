"""The settings of the app, read from the dict ``NOTIFICATIONS`` when they are used.

>>> from notifications.conf import settings
>>> settings.LEASE
20
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

#: What apps use, beside ``Setting`` and ``WrongDeclaration``, which are exported by ``extension``.
__all__ = ["cached_until_changed", "settings"]

P = ParamSpec("P")
R = TypeVar("R")


class Setting(NamedTuple):
    """A key of ``NOTIFICATIONS``.

    ``types``
        Those of its values, by default that of ``default``; of a list a tuple too.
    ``is_valid``, ``rule``
        A condition on a value of such a type, and how an error states it.
    ``is_secret``
        Errors do not show its value.
    """

    default: Any
    types: tuple[type, ...] = ()
    is_valid: Callable[[Any], bool] | None = None
    rule: str = ""
    is_secret: bool = False

    @classmethod
    def of_origins(cls, example: str) -> Setting:
        """Return a key whose value is a list of origins: scheme, host and port, like the example."""
        return cls(
            [],
            is_valid=lambda value: all(map(_is_origin, value)),
            rule=f"a list like ['{example}'], without a path",
        )


class WrongDeclaration(NamedTuple):
    """What is wrong with an entry of a setting that disables only itself.

    ``id`` is that of the system check, an error if it begins with E, as ``notifications.E014``, else a warning.
    """

    id: str
    message: str
    hint: str

    def as_check_message(self) -> CheckMessage:
        """Return it as a message of Django's system checks."""
        kind = Error if self.id.rpartition(".")[2].startswith("E") else Warning
        return kind(self.message, hint=self.hint, id=self.id)


def cached_until_changed(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache what a function returns until one of these settings of Django changes, as tests change them."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        cached: Any = lru_cache(maxsize=1_000)(function)

        def forget(*, setting: str, **kwargs: Any) -> None:
            if setting in names:
                cached.cache_clear()

        setting_changed.connect(forget, weak=False)
        return cast("Callable[P, R]", cached)

    return decorate


class Settings:
    """The keys of ``NOTIFICATIONS`` as attributes, with defaults.

    Raises ``ImproperlyConfigured`` for a value of the wrong type or range.
    """

    ACTIVE_JOBS_PER_USER: int
    AUTHENTICATORS: list[Any]
    JOBS_PER_MINUTE: int
    CATEGORIES: dict[str, Any]
    CONCURRENCY: int
    GRACE: float
    LEASE: float
    MAX_BODY_BYTES: int | None
    OPENTELEMETRY: bool
    ORIGINS: list[str]
    OUTBOUND_ALLOW: list[str]
    OUTBOUND_PER_HOST: int
    OUTBOUND_PORTS: list[int]
    RETENTION: timedelta
    RINGS_CARRY_CHANGES: bool
    SITE_URL: str
    SOCKETS_PER_USER: int
    USER_LANGUAGE: str

    @property
    def EMBEDDED_WORKER(self) -> bool:
        """Whether this server process runs jobs too; by default with ``DEBUG`` only."""
        value = _read("EMBEDDED_WORKER")
        return django_settings.DEBUG if value is None else value

    def __getattr__(self, key: str) -> Any:
        if key not in SETTINGS:
            raise AttributeError(f"There is no setting NOTIFICATIONS[{key!r}]. Known: {', '.join(SETTINGS)}.")
        return _read(key)


settings = Settings()


def _is_positive(value: float) -> bool:
    return value > 0


def _is_origin(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+", value) is not None


def _is_port(value: Any) -> bool:
    return type(value) is int and 0 < value < 65536


POSITIVE: dict[str, Any] = {"is_valid": _is_positive, "rule": "1 or more"}
#: Enqueueing counts the active jobs of a user up to the limit, 1.1 s for 1,000,000 of them.
MAX_ACTIVE_JOBS_PER_USER = 100_000

#: The keys of the core.
CORE_SETTINGS = {
    "ACTIVE_JOBS_PER_USER": Setting(
        1000,
        is_valid=lambda value: 0 < value <= MAX_ACTIVE_JOBS_PER_USER,
        rule=f"1 to {MAX_ACTIVE_JOBS_PER_USER:,}",
    ),
    "AUTHENTICATORS": Setting([]),  # http/authentication.py: a wrong entry disables only itself
    "JOBS_PER_MINUTE": Setting(1200, **POSITIVE),
    "CATEGORIES": Setting({}),
    "CONCURRENCY": Setting(100, **POSITIVE),
    "EMBEDDED_WORKER": Setting(None, types=(bool, type(None))),
    "GRACE": Setting(25, types=(int, float), is_valid=lambda value: value >= 0, rule="0 seconds or more"),
    "LEASE": Setting(20, types=(int, float), is_valid=_is_positive, rule="above 0 seconds"),
    "MAX_BODY_BYTES": Setting(
        None,
        types=(int, type(None)),
        is_valid=lambda value: value is None or value > 0,
        rule="1 or more, or None",
    ),
    "OPENTELEMETRY": Setting(False),
    "ORIGINS": Setting.of_origins("https://example.com"),
    "OUTBOUND_ALLOW": Setting([]),
    "OUTBOUND_PER_HOST": Setting(10, **POSITIVE),
    "OUTBOUND_PORTS": Setting(
        [80, 443], is_valid=lambda value: all(map(_is_port, value)), rule="a list of port numbers"
    ),
    "RETENTION": Setting(timedelta(days=30)),
    "RINGS_CARRY_CHANGES": Setting(True),
    "SITE_URL": Setting(
        "",
        is_valid=lambda value: not value or _is_origin(value),
        rule="like 'https://example.com', without a path",
    ),
    "SOCKETS_PER_USER": Setting(20, **POSITIVE),
    "USER_LANGUAGE": Setting(""),
}

#: The keys of the core and of the installed extensions. ``extension.load()`` replaces it when the apps are ready.
SETTINGS: Mapping[str, Setting] = CORE_SETTINGS
#: The value of each key that was valid when it was read last, and its declaration then.
_valid: dict[str, tuple[Setting, Any]] = {}


def _read(key: str) -> Any:
    configured = getattr(django_settings, "NOTIFICATIONS", {})
    if not isinstance(configured, dict):
        raise ImproperlyConfigured("NOTIFICATIONS is not a dict. Write NOTIFICATIONS = {...}.")
    setting, known = SETTINGS[key], _valid.get(key)
    value = configured.get(key, setting.default)
    if known and known[0] is setting and known[1] is value:
        return value
    expected = setting.types or (
        (list, tuple) if isinstance(setting.default, list) else (type(setting.default),)
    )
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        names = " or ".join(kind.__name__ for kind in expected)
        shown = "of another type" if setting.is_secret else repr(value)
        raise ImproperlyConfigured(f"NOTIFICATIONS[{key!r}] is {shown}. It must be of type {names}.")
    if setting.is_valid and not setting.is_valid(value):
        shown = "wrong" if setting.is_secret else repr(value)
        raise ImproperlyConfigured(f"NOTIFICATIONS[{key!r}] is {shown}. It must be {setting.rule}.")
    _valid[key] = setting, value
    return value
