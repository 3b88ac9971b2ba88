"""Parse the URLs of the services that the site uses: DATABASE_URL and REDIS_URL.

An error never quotes the URL, which may contain a password.
"""

from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

SQLITE_OPTIONS = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}
INVALID_URL = (
    "{0} cannot be read: percent-encode the user and password, and use a port number from 0 to 65535."
)


def parse_database_url(url):
    """Return the DATABASES entry for sqlite:///path or postgres://user:password@host:port/name?option=value.

    sqlite:////path is an absolute path, sqlite:///path is relative to the working directory. Characters that have a
    meaning in URLs must be percent-encoded.
    """
    scheme = check_url("DATABASE_URL", url).scheme if "://" in url else ""
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"DATABASE_URL has an unknown scheme {scheme!r}: "
            "use sqlite:///path/to/file or postgres://user:password@host:5432/name."
        )
    database = dict(dj_database_url.parse(url, conn_health_checks=scheme != "sqlite"))
    name, options = database["NAME"], database.get("OPTIONS", {})
    if scheme == "sqlite":
        if name == ":memory:":
            raise ImproperlyConfigured(
                "DATABASE_URL has no SQLite file. A database in memory cannot be shared by threads: "
                "use sqlite:///path/to/file."
            )
        return database | {"NAME": str(Path(name).absolute()), "OPTIONS": SQLITE_OPTIONS | options}
    if not name:
        raise ImproperlyConfigured(
            "DATABASE_URL has no database name: use postgres://user:password@host:5432/name."
        )
    return database


def redis_layer(url):
    """Return CHANNEL_LAYERS for redis://:password@host:6379/0, rediss://… (TLS) or unix:///path/to/socket."""
    parts = check_url("REDIS_URL", url)
    target = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in ("redis", "rediss", "unix") or not target:
        raise ImproperlyConfigured(
            f"REDIS_URL has no Redis address ({parts.scheme or 'no scheme'}): use redis://host:6379/0, "
            "rediss://host:6379/0 or unix:///path/to/socket."
        )
    layer = "channels_redis.pubsub.RedisPubSubChannelLayer"
    return {"default": {"BACKEND": layer, "CONFIG": {"hosts": [url], "prefix": "asyncsite"}}}


def check_url(name, url):
    """Return the parts of a URL. Raises ImproperlyConfigured if a password is not percent-encoded.

    An unencoded ``/``, ``?`` or ``#`` in a password ends the host part, and moves the ``@`` into a later one.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.port is None or 0 <= parts.port <= 65535
    except ValueError:
        is_valid = False
    if not is_valid or "@" in parts.path + parts.query + parts.fragment:
        raise ImproperlyConfigured(INVALID_URL.format(name))
    return parts
