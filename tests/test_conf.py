"""Settings are read when they are needed, with defaults and clear errors."""

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications import conf


def test_defaults(settings):
    """Nothing need be set."""
    del settings.NOTIFICATIONS
    expected = {
        "ACTIVE_JOBS_PER_USER": 1000,
        "LEASE": 20,
        "MAX_BODY_BYTES": None,
        "GRACE": 25,
        "CONCURRENCY": 100,
        "ORIGINS": [],
        "OUTBOUND_ALLOW": [],
        "OUTBOUND_PER_HOST": 10,
        "OUTBOUND_PORTS": [80, 443],
        "SOCKETS_PER_USER": 20,
        "RETENTION": timedelta(days=30),
        "RINGS_CARRY_CHANGES": True,
    }
    assert {key: getattr(conf.settings, key) for key in expected} == expected
    assert set(expected) | {"EMBEDDED_WORKER"} <= (set(conf.SETTINGS))


def test_they_are_read_at_call_time(settings):
    """A test, or a host that configures late, is heard."""
    settings.NOTIFICATIONS = {"LEASE": 30}
    assert (conf.settings.LEASE, conf.settings.GRACE) == (30, 25)
    settings.NOTIFICATIONS = {"LEASE": 0.5}
    assert conf.settings.LEASE == 0.5


@pytest.mark.parametrize(
    ("told", "debug", "on"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"EMBEDDED_WORKER": True}, False, True),
        ({"EMBEDDED_WORKER": False}, True, False),
    ],
)
def test_the_embedded_worker_is_on_with_debug(told, debug, on, settings):
    """Unless told otherwise."""
    settings.NOTIFICATIONS, settings.DEBUG = told, debug
    assert conf.settings.EMBEDDED_WORKER is on


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("LEASE", "20", "NOTIFICATIONS['LEASE'] is '20'. It must be of type int or float."),
        (
            "SOCKETS_PER_USER",
            True,
            "NOTIFICATIONS['SOCKETS_PER_USER'] is True. It must be of type int.",
        ),
        (
            "ORIGINS",
            "https://x",
            "NOTIFICATIONS['ORIGINS'] is 'https://x'. It must be of type list or tuple.",
        ),
        ("EMBEDDED_WORKER", 1, "NOTIFICATIONS['EMBEDDED_WORKER'] is 1. It must be of type bool or NoneType."),
        ("RETENTION", 30, "NOTIFICATIONS['RETENTION'] is 30. It must be of type timedelta."),
    ],
)
def test_a_wrong_type(key, value, words, settings):
    """Says which setting, what it is, and what it must be."""
    settings.NOTIFICATIONS = {key: value}
    with pytest.raises(ImproperlyConfigured) as raised:
        getattr(conf.settings, key)
    assert str(raised.value) == words


def test_a_setting_that_is_not_there():
    """Names those that are."""
    with pytest.raises(
        AttributeError, match=r"no setting NOTIFICATIONS\['LEES'\]. Known: ACTIVE_JOBS_PER_USER"
    ):
        conf.settings.LEES  # noqa: B018


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ACTIVE_JOBS_PER_USER", 0),
        ("CONCURRENCY", 0),
        ("CONCURRENCY", 10.0),
        ("LEASE", 0),
        ("GRACE", -1),
        ("SOCKETS_PER_USER", 0),
        ("ORIGINS", ["https://example.com/"]),
        ("ORIGINS", ["example.com"]),
        ("OUTBOUND_PORTS", ["443"]),
        ("OUTBOUND_PORTS", [70_000]),
    ],
)
def test_a_value_that_would_stop_everything_in_silence_is_refused(key, value, settings):
    """With what it must be."""
    settings.NOTIFICATIONS = {key: value}
    with pytest.raises(ImproperlyConfigured, match=rf"NOTIFICATIONS\['{key}'\] is .* It must be "):
        getattr(conf.settings, key)


def test_a_limit_of_active_jobs_is_refused_that_would_take_seconds_to_count(settings):
    """Each enqueue beyond half of it counts them."""
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 100_000}
    assert conf.settings.ACTIVE_JOBS_PER_USER == 100_000
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 100_001}
    with pytest.raises(ImproperlyConfigured, match=r"is 100001\. It must be 1 to 100,000\."):
        conf.settings.ACTIVE_JOBS_PER_USER  # noqa: B018
