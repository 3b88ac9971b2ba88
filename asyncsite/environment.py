"""The values for the site's settings: environment variables, and defaults that `make run` recorded in var/."""

import json
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from asyncsite.private_files import make_private_folder, write_private_file
from asyncsite.service_urls import mail_settings, parse_database_url, redis_layer

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
    "CELERY_BROKER_URL",
    "SITE_URL",
    "EMAIL_URL",
    "EMAIL_FROM",
    "EMAIL_DELAY_SECONDS",
    "VAPID_PRIVATE_KEY",
    "VAPID_SUBJECT",
)


class Environment:
    """The variables of NAMES, converted to Python types. Empty variables count as unset.

    Variables of the process take precedence over the record of the last `make run`, var/development.json, which gives
    commands beside a development server its settings. A process with SECRET_KEY or DEBUG in its environment, even
    empty, does not read the record: a file that was left behind cannot turn production into development.
    """

    def __init__(self, var, environ=os.environ):
        self.var = Path(var)
        self.has_empty_key = "SECRET_KEY" in environ and not environ["SECRET_KEY"].strip()
        recorded = {} if {"SECRET_KEY", "DEBUG"} & environ.keys() else read_record(self.var)
        self.values = recorded | select_variables(environ)

    def text(self, name, default=""):
        return self.values.get(name, default)

    def flag(self, name, default):
        """Return True for 1, true, yes or on, and False for 0, false, no or off."""
        value = self.values.get(name)
        if value is None:
            return default
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off"):
            return False
        raise ImproperlyConfigured(f"{name} is {value!r}: use 1 or 0.")

    def names(self, name):
        """Return the parts of a comma-separated list."""
        return [part.strip() for part in self.values.get(name, "").split(",") if part.strip()]

    def port(self):
        value = self.values.get("PORT", "8000")
        if not value.isascii() or not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= 65535:
            raise ImproperlyConfigured(f"PORT is {value!r}: use a number from 1 to 65535.")
        return int(value)

    def days(self, name, default):
        """Return a timedelta of whole days."""
        return timedelta(days=self._whole_number(name, default, "days", 1, 99999))

    def seconds(self, name, default):
        """Return a timedelta of whole seconds, at most a day."""
        return timedelta(seconds=self._whole_number(name, default, "seconds", 0, 86400))

    def _whole_number(self, name, default, unit, minimum, maximum):
        value = self.values.get(name, default)
        if (
            not value.isascii()
            or not value.isdigit()
            or len(value) > 5
            or not minimum <= int(value) <= maximum
        ):
            raise ImproperlyConfigured(
                f"{name} is {value!r}: use a number of {unit} from {minimum} to {maximum}."
            )
        return int(value)

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
        """Return the database of DATABASE_URL, by default a file in var/, which is created for it."""
        if url := self.values.get("DATABASE_URL"):
            return parse_database_url(url)
        with suppress(OSError):  # the server and SQLite name the folder
            make_private_folder(self.var)
        return parse_database_url(f"sqlite:///{quote(str(self.var / 'asyncsite.sqlite3'))}")

    def channel_layers(self):
        """Return CHANNEL_LAYERS with the Redis of REDIS_URL, or {} without one."""
        return redis_layer(url) if (url := self.values.get("REDIS_URL")) else {}

    def mail(self, debug):
        """Return Django's settings of e-mail for EMAIL_URL, by default files in var/mail in development; else {}."""
        default = f"file://{quote(str(self.var / 'mail'))}" if debug else ""
        return mail_settings(url) if (url := self.values.get("EMAIL_URL", default)) else {}


def public_address(host, port):
    """Return the address at which this machine reaches the server, as in a URL: 127.0.0.1:8000."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def development_key(var):
    """Return the secret key of this checkout, which the first call generates."""
    path = Path(var) / "secret_key"
    try:
        if path.exists() and (key := path.read_text().strip()):
            return key
        make_private_folder(path.parent)
        write_private_file(path, secrets.token_urlsafe(50), replace=False)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be read or written: {error.strerror}.") from error


def select_variables(environ):
    return {name: environ[name] for name in NAMES if environ.get(name)}


def read_record(var):
    try:
        return json.loads((Path(var) / "development.json").read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return {}


def write_record(var, environ=os.environ):
    """Record the variables of a development server for the commands beside it. DEBUG is always recorded as 1."""
    record = select_variables(environ) | {"DEBUG": "1"}
    write_private_file(Path(var) / "development.json", json.dumps(record, indent=1) + "\n")
