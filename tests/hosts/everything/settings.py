"""Settings of a project that combines every difficult setting.

HOST_FOLDER is the folder of its databases and static files, HOST_KEY the type of its user keys: "uuid" or "string",
HOST_DEBUG=1 is development.
With strings, the CSRF token is in the session, and there are no time zones.
"""

import os
from pathlib import Path

import django

FOLDER = Path(os.environ["HOST_FOLDER"])
NAME = "tests.hosts.everything"

SECRET_KEY = "everything"
DEBUG = os.environ.get("HOST_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = f"{NAME}.urls"
ASGI_APPLICATION = f"{NAME}.asgi.application"
FORCE_SCRIPT_NAME = "/app"

INSTALLED_APPS = [
    "daphne",
    "notifications",
    "notifications.contrib.broadcasts",
    "notifications.contrib.engines",
    "notifications.contrib.deliveries",
    "notifications.contrib.operations",
    "notifications.contrib.files",
    "notifications.contrib.output",
    "notifications.contrib.questions",
    "notifications.contrib.schedules",
    "notifications.contrib.chat",
    "notifications.contrib.rates",
    "notifications.contrib.steps",
    "notifications.contrib.webhooks",
    NAME,
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else f"{NAME}.csp.csp_nonce_middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

# In development none. Not even 'self': a script or a style sheet without the nonce of the page is refused.
NONCE = "<CSP_NONCE_SENTINEL>"
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": [NONCE],
    "style-src": [NONCE],
    "img-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
}
if django.VERSION >= (6, 0):
    from django.utils.csp import CSP

    SECURE_CSP |= {"script-src": [CSP.NONCE], "style-src": [CSP.NONCE]}

if DEBUG:
    SECURE_CSP = {}

PROCESSORS = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
PROCESSORS += ["django.contrib.messages.context_processors.messages"]
PROCESSORS += ["django.template.context_processors.csp"] if django.VERSION >= (6, 0) else []
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": PROCESSORS},
    }
]

# Only Django's defaults. The rows of the app are in the database "app", and no transaction spans both databases.
DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / f"{alias}.sqlite3",
        "ATOMIC_REQUESTS": True,
    }
    for alias in ("default", "app")
}
DATABASE_ROUTERS = [f"{NAME}.router.AppRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "everything.Person"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "start"
LOGOUT_REDIRECT_URL = "login"

CSRF_HEADER_NAME = "HTTP_X_OFFICE_TOKEN"
CSRF_COOKIE_NAME = "office"
CSRF_USE_SESSIONS = os.environ["HOST_KEY"] == "string"

LANGUAGE_CODE = "de"
LANGUAGES = [("de", "Deutsch"), ("en", "English")]
TIME_ZONE = "Europe/Berlin"
USE_TZ = os.environ["HOST_KEY"] != "string"

STATIC_URL = "static/"
STATIC_ROOT = FOLDER / "static"
STORAGES = {
    "notifications_files": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": FOLDER / "files"},
    },
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}
NOTIFICATIONS = {
    "EMBEDDED_WORKER": os.environ.get("HOST_WORKER") == "embedded",
    "ALERTS": {"interval": None},  # jobs fail in these tests, which count the notifications of a superuser
}
