"""Environment variables and service URLs."""

import json
import traceback

import django
import pytest
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured

from asyncsite.environment import Environment, public_address, write_record
from asyncsite.service_urls import mail_settings, parse_database_url, redis_layer

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture
def var(tmp_path):
    return tmp_path / "var"


def test_production_is_the_default(var):
    """Without DEBUG, SECRET_KEY or a record there is no key, and the error names both remedies."""
    env = Environment(var, {})
    assert env.flag("DEBUG", default=False) is False
    with pytest.raises(
        ImproperlyConfigured, match=r"SECRET_KEY is not set\. For development run `make run` once"
    ):
        env.secret_key(debug=False)


def test_development_key_is_generated_once_and_private(var):
    """With DEBUG the first call writes a key to var/. Later calls and other processes read it."""
    key = Environment(var, {"DEBUG": "1"}).secret_key(debug=True)
    assert len(key) >= 50
    assert Environment(var, {"DEBUG": "1"}).secret_key(debug=True) == key
    assert (var / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in var.iterdir()] == ["secret_key"]


def test_unwritable_var_is_one_line(var):
    """The error has the path and the reason."""
    var.write_text("in the way")
    with pytest.raises(ImproperlyConfigured) as caught:
        Environment(var, {}).secret_key(debug=True)
    assert str(caught.value) == f"{var / 'secret_key'} cannot be read or written: File exists."


def test_commands_use_the_record_of_the_server(var):
    """Variables of the process take precedence over the record of `make run`."""
    var.mkdir()
    write_record(
        var, {"PORT": "8123", "DATABASE_URL": "sqlite:////elsewhere/x.sqlite3", "UNRELATED": "secret"}
    )
    env = Environment(var, {"PORT": "9000"})
    assert env.flag("DEBUG", default=False) is True
    assert env.port() == 9000
    assert env.database()["NAME"] == "/elsewhere/x.sqlite3"
    assert "UNRELATED" not in json.loads((var / "development.json").read_text())


@pytest.mark.parametrize("variables", [{"SECRET_KEY": "k"}, {"DEBUG": "0"}])
def test_production_ignores_the_record(var, variables):
    """A process with SECRET_KEY or DEBUG does not read what a development server has recorded."""
    var.mkdir()
    write_record(var, {"PORT": "8123"})
    env = Environment(var, variables)
    assert env.flag("DEBUG", default=False) is False
    assert env.port() == 8000


@pytest.mark.parametrize("key", ["", "  "])
@pytest.mark.parametrize("debug", [{}, {"DEBUG": ""}, {"DEBUG": "1"}])
def test_an_empty_key_is_an_error(var, key, debug):
    """A missing secret must not be replaced by the record or by a development key."""
    var.mkdir()
    write_record(var, {"PORT": "8123"})
    env = Environment(var, {"SECRET_KEY": key, **debug})
    assert env.flag("DEBUG", default=False) is bool(debug.get("DEBUG"))
    assert env.port() == 8000
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY is set but empty\. In production set it"):
        env.secret_key(debug=env.flag("DEBUG", default=False))


def test_an_empty_debug_is_not_development(var):
    var.mkdir()
    write_record(var, {"PORT": "8123"})
    assert Environment(var, {"DEBUG": ""}).flag("DEBUG", default=False) is False


@pytest.mark.parametrize("mode", [None, 0o755])
def test_var_is_private(var, mode):
    """A new var/ and an existing one."""
    if mode:
        var.mkdir(mode=mode)
    Environment(var, {"DEBUG": "1"}).secret_key(debug=True)
    assert var.stat().st_mode & 0o777 == 0o700


def test_the_folder_of_the_default_database_is_created(var):
    """A first `manage.py migrate` in production finds it, before a server has created it."""
    assert Environment(var, {}).database()["NAME"] == str(var / "asyncsite.sqlite3")
    assert var.stat().st_mode & 0o777 == 0o700


def test_damaged_record_is_ignored(var):
    """A full disk may leave half a file."""
    var.mkdir()
    (var / "development.json").write_text('{"PORT"')
    assert Environment(var, {}).port() == 8000


@pytest.mark.parametrize("value", ["0", "65536", "650000", "9" * 5000, "x", "-1", "8000.0", "٣"])
def test_port_is_validated(var, value):
    """The error has the value."""
    with pytest.raises(ImproperlyConfigured, match=r"PORT is .*: use a number from 1 to 65535\."):
        Environment(var, {"PORT": value}).port()


def test_flags_and_lists(var):
    """Flags ignore case, lists ignore spaces, and an empty variable counts as unset."""
    env = Environment(
        var, {"DEBUG": "Yes", "EMBEDDED_WORKER": "off", "ALLOWED_HOSTS": "a.example, b.example,", "HOST": ""}
    )
    assert env.flag("DEBUG", default=False) is True
    assert env.flag("EMBEDDED_WORKER", default=True) is False
    assert env.names("ALLOWED_HOSTS") == ["a.example", "b.example"]
    assert env.text("HOST", "127.0.0.1") == "127.0.0.1"
    with pytest.raises(ImproperlyConfigured, match=r"DEBUG is 'maybe': use 1 or 0\."):
        Environment(var, {"DEBUG": "maybe"}).flag("DEBUG", default=False)


def test_sqlite_url(tmp_path, monkeypatch):
    """Four slashes: absolute path; three: relative path. Escapes are decoded."""
    monkeypatch.chdir(tmp_path)
    assert parse_database_url("sqlite:////data/my%20site.sqlite3")["NAME"] == "/data/my site.sqlite3"
    assert parse_database_url("sqlite:///var/x.sqlite3")["NAME"] == str(tmp_path / "var/x.sqlite3")
    options = parse_database_url("sqlite:////x")["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert options["timeout"] == 20


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_sqlite_needs_a_file(url):
    """In memory each thread would have its own database."""
    with pytest.raises(ImproperlyConfigured, match="has no SQLite file"):
        parse_database_url(url)


def test_postgres_url():
    """All parts are decoded, the query becomes options, and both names of the scheme are accepted."""
    entry = parse_database_url("postgresql://us%40er:p%2Fw%3A@db.example:5433/my%20db?sslmode=require")
    assert entry["ENGINE"] == "django.db.backends.postgresql"
    assert (entry["USER"], entry["PASSWORD"]) == ("us@er", "p/w:")
    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == ("db.example", 5433, "my db")
    assert entry["OPTIONS"] == {"sslmode": "require"}
    assert parse_database_url("postgres:///db?host=/run/postgresql")["OPTIONS"] == {"host": "/run/postgresql"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://root@localhost/db", "unknown scheme 'mysql': use sqlite:///path/to/file or postgres://"),
        ("/var/db.sqlite3", "unknown scheme '': use sqlite:///"),
        ("postgres://host", "has no database name"),
        ("postgres://host:port/db", "cannot be read: percent-encode the user and password"),
    ],
)
def test_invalid_database_urls_name_the_remedy(url, text):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as caught:
        parse_database_url(url)
    assert text in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:p%40w@h:6379/1", "rediss://h", "unix:///run/redis.sock"])
def test_redis_url(url):
    """It is passed to the pubsub layer unchanged."""
    assert redis_layer(url)["default"]["BACKEND"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert redis_layer(url)["default"]["CONFIG"]["hosts"] == [url]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("h:6379", r"has no Redis address \(h\): use redis://host:6379/0"),
        ("/run/redis.sock", r"has no Redis address \(no scheme\)"),
        ("redis:///0", "has no Redis address"),
        ("unix://", "has no Redis address"),
        ("redis://h:port", "cannot be read: percent-encode the user and password"),
    ],
)
def test_invalid_redis_urls_name_the_remedy(url, text):
    with pytest.raises(ImproperlyConfigured, match=f"REDIS_URL {text}"):
        redis_layer(url)


@pytest.mark.parametrize("scheme", ["postgres", "redis"])
@pytest.mark.parametrize(
    "password", ["Sup3r/Secret", "Sup3r?Secret", "Sup3r#Secret", "[Sup3r]Secret", "6/Sup3r"]
)
def test_errors_contain_no_part_of_a_password(scheme, password):
    """Neither the message nor the traceback with its causes does."""
    read = {"postgres": parse_database_url, "redis": redis_layer}[scheme]
    with pytest.raises(ImproperlyConfigured) as caught:
        read(f"{scheme}://u:{password}@host/name")
    report = "".join(traceback.format_exception(caught.value))
    assert "Sup3r" not in report and "Secret" not in report
    assert "percent-encode the user and password" in report


def test_without_redis_there_is_no_layer(tmp_path):
    """The doorbell of the database is used then."""
    assert Environment(tmp_path, {}).channel_layers() == {}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("0.0.0.0", "127.0.0.1:80"),
        ("::", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("a.b", "a.b:80"),
    ],
)
def test_public_address(host, address):
    """A server that listens on all addresses is reached by the loopback address."""
    assert public_address(host, 80) == address


@pytest.mark.parametrize(
    ("url", "backend", "options"),
    [
        ("file:///var/a%20b", "filebased", {"file_path": "/var/a b"}),
        ("smtp://localhost", "smtp", {"host": "localhost", "port": 25}),
        (
            "smtp+tls://ada:p%40ss@mail.example.com:2587",
            "smtp",
            {
                "host": "mail.example.com",
                "port": 2587,
                "use_tls": True,
                "username": "ada",
                "password": "p@ss",
            },
        ),
        ("smtps://mail.example.com", "smtp", {"host": "mail.example.com", "port": 465, "use_ssl": True}),
    ],
)
def test_email_url(url, backend, options):
    """Django's settings by version: MAILERS, or EMAIL_BACKEND and its options, with the names that it reads."""
    backend = f"django.core.mail.backends.{backend}.EmailBackend"
    if django.VERSION >= (6, 1):
        assert mail_settings(url) == {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
        return
    names = {"username": "EMAIL_HOST_USER", "password": "EMAIL_HOST_PASSWORD"}
    expected = {names.get(key, f"EMAIL_{key.upper()}"): value for key, value in options.items()}
    assert mail_settings(url) == {"EMAIL_BACKEND": backend, **expected}
    assert set(expected) <= {*dir(global_settings), "EMAIL_FILE_PATH"}


@pytest.mark.parametrize(
    "url", ["http://mail.example.com", "file://", "smtp://", "smtp://ada:p@ss/word@host"]
)
def test_wrong_email_url_is_not_quoted(url):
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL") as caught:
        mail_settings(url)
    assert "p@ss" not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "ten", "86401"])
def test_wrong_delay(var, value):
    with pytest.raises(ImproperlyConfigured, match="use a number of seconds from 0 to 86400"):
        Environment(var, {"EMAIL_DELAY_SECONDS": value}).seconds("EMAIL_DELAY_SECONDS", "600")
