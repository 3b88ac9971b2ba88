"""Parse the URLs of the services that the site uses: DATABASE_URL, REDIS_URL and EMAIL_URL.

An error never quotes the URL, which may contain a password.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import dj_database_url
import django
from django.core.exceptions import ImproperlyConfigured

SQLITE_OPTIONS = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}
#: Options of Django's SMTP backend by scheme.
SMTP_OPTIONS = {
    "smtp": {"port": 25},
    "smtp+tls": {"port": 587, "use_tls": True},
    "smtps": {"port": 465, "use_ssl": True},
}
#: The setting of Django before 6.1 for each option of a backend.
OLD_MAIL_SETTINGS = {"username": "EMAIL_HOST_USER", "password": "EMAIL_HOST_PASSWORD"}
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


def mail_settings(url):
    """Return Django's settings for file:///folder, smtp://user:password@host:25, smtp+tls://… or smtps://…."""
    parts = check_url("EMAIL_URL", url)
    if parts.scheme == "file" and parts.path:
        name, options = "filebased", {"file_path": unquote(parts.path)}
    elif parts.scheme in SMTP_OPTIONS and parts.hostname:
        given = {"port": parts.port, "username": parts.username, "password": parts.password}
        given = {key: unquote(value) if isinstance(value, str) else value for key, value in given.items()}
        name, options = "smtp", SMTP_OPTIONS[parts.scheme] | {"host": parts.hostname}
        options |= {key: value for key, value in given.items() if value}
    else:
        raise ImproperlyConfigured(
            f"EMAIL_URL has no mail server or folder ({parts.scheme or 'no scheme'}): use "
            "smtp+tls://user:password@host:587, smtps://…, smtp://… or file:///path/to/folder."
        )
    backend = f"django.core.mail.backends.{name}.EmailBackend"
    if django.VERSION >= (6, 1):
        return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    old = {OLD_MAIL_SETTINGS.get(key, f"EMAIL_{key.upper()}"): value for key, value in options.items()}
    return {"EMAIL_BACKEND": backend, **old}


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
