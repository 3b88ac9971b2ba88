"""Where the site's settings come from: the environment, and beneath it what `make run` wrote into var/."""

import contextlib
import json
import os
import secrets
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

NAMES = (
    "HOST",
    "PORT",
    "DATABASE_URL",
    "REDIS_URL",
    "SERVER",
    "EMBEDDED_WORKER",
    "DEBUG",
    "SECRET_KEY",
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "REPORT_RETENTION_DAYS",
)

SQLITE_OPTIONS = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}


UNREADABLE = (
    "{0} cannot be read: percent-encode the user and password, and name the port by a number from 0 to 65535."
)


class Environment:
    """The variables of NAMES, typed.

    A variable of the process takes precedence over the record of the last `make run`, var/development.json, from which
    a command beside a running development site gets the same settings. A process with SECRET_KEY or DEBUG in its
    environment, even empty, does not read the record: a file that was left behind cannot turn production into
    development.
    """

    def __init__(self, var, environ=os.environ):
        self.var = Path(var)
        given = {name: environ[name] for name in NAMES if environ.get(name)}
        # Also where it is set but empty, which is a mistake in production and not a wish for development.
        recorded = {} if {"SECRET_KEY", "DEBUG"} & environ.keys() else read_record(self.var)
        self.values = recorded | given
        self.has_empty_key = "SECRET_KEY" in environ and not environ["SECRET_KEY"].strip()

    def text(self, name, default=""):
        return self.values.get(name, default)

    def flag(self, name, default):
        """True for 1, true, yes, on; False for 0, false, no, off."""
        value = self.values.get(name)
        if value is None:
            return default
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off"):
            return False
        raise ImproperlyConfigured(f"{name} is {value!r}: use 1 or 0.")

    def names(self, name):
        """A list that is separated by commas."""
        return [part.strip() for part in self.values.get(name, "").split(",") if part.strip()]

    def port(self):
        value = self.values.get("PORT", "8000")
        if not value.isascii() or not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= 65535:
            raise ImproperlyConfigured(f"PORT is {value!r}: use a number from 1 to 65535.")
        return int(value)

    def days(self, name, default):
        """A timedelta of whole days."""
        value = self.values.get(name, default)
        if not value.isascii() or not value.isdigit() or len(value) > 5 or int(value) < 1:
            raise ImproperlyConfigured(f"{name} is {value!r}: use a number of days from 1 to 99999.")
        return timedelta(days=int(value))

    def secret_key(self, debug):
        if self.has_empty_key:
            raise ImproperlyConfigured(
                "SECRET_KEY is set but empty. In production set it to a long random text that only this site knows; "
                "for development unset it."
            )
        if key := self.values.get("SECRET_KEY"):
            return key
        if debug:
            return development_key(self.var)
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. For development run `make run` once, or set DEBUG=1; "
            "in production set SECRET_KEY to a long random text that only this site knows."
        )

    def database(self):
        return parse_database_url(
            self.values.get("DATABASE_URL") or f"sqlite:///{self.var / 'asyncsite.sqlite3'}"
        )

    def channel_layers(self):
        """CHANNEL_LAYERS: the Redis of REDIS_URL, or none."""
        return redis_layer(url) if (url := self.values.get("REDIS_URL")) else {}


def redis_layer(url):
    """CHANNEL_LAYERS for redis://:password@host:6379/0, rediss://… (TLS) or unix:///path/to/socket."""
    try:
        parts = split(url)
    except ValueError:
        # Without the cause: it quotes the URL, and with it a part of the password.
        raise ImproperlyConfigured(UNREADABLE.format("REDIS_URL")) from None
    place = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in ("redis", "rediss", "unix") or not place:
        raise ImproperlyConfigured(
            f"REDIS_URL names no Redis ({parts.scheme or 'without a scheme'}): use redis://host:6379/0, "
            "rediss://host:6379/0 or unix:///path/to/socket."
        )
    layer = "channels_redis.pubsub.RedisPubSubChannelLayer"
    return {"default": {"BACKEND": layer, "CONFIG": {"hosts": [url], "prefix": "asyncsite"}}}


def parse_database_url(url):
    """The DATABASES entry for sqlite:///path, postgres://user:password@host:port/name?option=value.

    A character that has a meaning in URLs is percent-encoded. sqlite:////path is an absolute path,
    sqlite:///path is relative to the working directory.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator:
        path = unquote(rest.removeprefix("/"))
        if not path or path == ":memory:":
            raise ImproperlyConfigured(
                "DATABASE_URL names no SQLite file: several threads share it, so use sqlite:///path/to/file."
            )
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(path).absolute()),
            "OPTIONS": dict(SQLITE_OPTIONS),
        }
    if scheme in ("postgres", "postgresql") and separator:
        return parse_postgres_url(url)
    raise ImproperlyConfigured(
        f"DATABASE_URL has an unknown scheme {scheme if separator else ''!r}: "
        "use sqlite:///path/to/file or postgres://user:password@host:5432/name."
    )


def parse_postgres_url(url):
    try:
        parts = split(url)
    except ValueError:
        # Without the cause: it quotes the URL, and with it a part of the password.
        raise ImproperlyConfigured(UNREADABLE.format("DATABASE_URL")) from None
    name = unquote(parts.path.removeprefix("/"))
    if not name:
        raise ImproperlyConfigured("DATABASE_URL names no database: postgres://user:password@host:5432/name.")
    options = {}
    for pair in filter(None, parts.query.split("&")):
        key, _, value = pair.partition("=")
        options[unquote(key)] = unquote(value)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def split(url):
    """The parts of a URL. ValueError where a password that is not percent-encoded would end up in another part."""
    parts = urlsplit(url)
    parts.port  # noqa: B018  (raises for what is no port)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("There is a mark of a user behind the host.")
    return parts


def public_address(host, port):
    """The address under which this machine reaches the server, as it stands in a URL, like 127.0.0.1:8000."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def development_key(var):
    """The secret key of this checkout, made at the first call."""
    path = Path(var) / "secret_key"
    try:
        if path.exists() and (key := path.read_text().strip()):
            return key
        make_private_folder(path.parent)
        write_private(path, secrets.token_urlsafe(50), replace=False)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be read or written: {error.strerror}.") from error


def read_record(var):
    try:
        return json.loads((Path(var) / "development.json").read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return {}


def write_record(var, environ=os.environ):
    """Leave for the commands beside a development server what it was started with.

    DEBUG is always in it, so the commands are in development too.
    """
    given = {name: environ[name] for name in NAMES if environ.get(name)}
    write_private(Path(var) / "development.json", json.dumps(given | {"DEBUG": "1"}, indent=1) + "\n")


def make_private_folder(path):
    """Make a folder that only its owner can enter; take the access of others to one that is there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_private(path, text, *, replace=True):
    """Write the file in one step, readable by its owner only. replace=False leaves one that is there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    if replace:
        temporary.replace(path)
    else:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
