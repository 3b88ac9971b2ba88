"""Settings of the site. What differs between machines comes from the environment."""

from pathlib import Path

import django
from django.conf import global_settings
from django.utils.translation import gettext_lazy as _

from asyncsite import first_page
from asyncsite.environment import Environment, public_address

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = Environment(VAR_DIR)

DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.secret_key(DEBUG)
HOST = env.text("HOST", "127.0.0.1")
PORT = env.port()
SERVER = env.text("SERVER", "daphne")

# The server's own address, for the sample URLs and the allow list. It never comes from a request.
SELF_ADDRESS = public_address(HOST, PORT)
SELF_URL = f"http://{SELF_ADDRESS}"

ALLOWED_HOSTS = env.names("ALLOWED_HOSTS")
if DEBUG:
    ALLOWED_HOSTS += ["localhost", ".localhost", "127.0.0.1", "[::1]", SELF_ADDRESS.rpartition(":")[0]]
CSRF_TRUSTED_ORIGINS = env.names("CSRF_TRUSTED_ORIGINS")
CSRF_FAILURE_VIEW = "asyncsite.access.csrf_failure"

INSTALLED_APPS = [
    "daphne",
    "asyncsite",  # before "notifications", to override its base.html
    "notifications",
    "notifications.contrib.files",  # first: phones show the last link of the inbox, to preferences
    "notifications.contrib.broadcasts",
    "notifications.contrib.engines",
    "notifications.contrib.deliveries",
    "notifications.contrib.operations",
    "notifications.contrib.output",
    "notifications.contrib.questions",
    "notifications.contrib.rates",
    "notifications.contrib.schedules",
    "notifications.contrib.chat",
    "notifications.contrib.steps",
    "notifications.contrib.webhooks",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else "asyncsite.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# No inline code but the site's own files, no other origins. 'self' includes WebSockets to the same origin.
SECURE_CSP = {
    "default-src": ["'self'"],
    "script-src": ["'self'", first_page.csp_source(first_page.SCRIPT)],
    "style-src": [
        "'self'",
        *map(first_page.csp_source, (first_page.STYLE, first_page.APP_STYLE, first_page.PAGES_STYLE)),
    ],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}

ROOT_URLCONF = "asyncsite.urls"
ASGI_APPLICATION = "asyncsite.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": env.database()}
CHANNEL_LAYERS = env.channel_layers()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/reports/"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German")), ("es", _("Spanish")), ("fr", _("French"))]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_SAMESITE = "Lax"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"  # not in var/, which a proxy of another user cannot read
STORAGES = {
    **global_settings.STORAGES,
    # What jobs make for their owners. Nothing serves it but notifications.contrib.files.
    "notifications_files": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": VAR_DIR / "files"},
    },
}

TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}

# With a broker, Celery's workers run the jobs, in place of the built-in worker.
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL")
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
if CELERY_BROKER_URL:
    INSTALLED_APPS += ["notifications.contrib.celery"]
    TASKS["default"]["OPTIONS"] = {"engine": "notifications.contrib.celery"}

# Older reports are deleted. A user may delete a report earlier.
REPORT_RETENTION = env.days("REPORT_RETENTION_DAYS", default="90")

# Where links in e-mails and push messages lead. Without it none are sent.
SITE_URL = env.text("SITE_URL", SELF_URL if DEBUG else "")
# The settings of Django that send e-mails: MAILERS, before 6.1 EMAIL_BACKEND and others.
MAIL_SETTINGS = env.mail(DEBUG)
vars().update(MAIL_SETTINGS)
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "Asyncsite <asyncsite@localhost>")
WEB_PUSH = {}
if VAPID_PRIVATE_KEY := env.text("VAPID_PRIVATE_KEY"):
    WEB_PUSH = {"private_key": VAPID_PRIVATE_KEY, "subject": env.text("VAPID_SUBJECT")}

# What is not seen on a page is pushed to the user's devices at once, and sent by e-mail if it is still open later.
STEPS = [{"push": 0}] if WEB_PUSH else []
if MAIL_SETTINGS:
    STEPS.append({"email": env.seconds("EMAIL_DELAY_SECONDS", default="600")})

NOTIFICATIONS = {
    "EMBEDDED_WORKER": env.flag("EMBEDDED_WORKER", default=DEBUG),
    "MAX_BODY_BYTES": 16 * 1024 * 1024,
    # In development the sample upstream may be called, and nothing else on this machine.
    "OUTBOUND_ALLOW": [SELF_ADDRESS] if DEBUG else [],
    "SITE_URL": SITE_URL,
    "WEB_PUSH": WEB_PUSH,
    "DELIVERY": {"*": STEPS} if SITE_URL and STEPS else {},
    "CATEGORIES": {
        "job": {"name": _("Reports"), "description": _("The URLs of a report have been checked.")},
    },
    "SCHEDULES": {"delete-old-reports": {"task": "asyncsite.tasks.delete_old_reports", "cron": "30 3 * * *"}},
}

# DELIVERY is empty where whoever runs the site has set no SITE_URL. Each start would print that.
SILENCED_SYSTEM_CHECKS = ["notifications.I006"]

# Outside development the site is behind a proxy that serves HTTPS and sends X-Forwarded-Proto.
SECURE_PROXY_SSL_HEADER = None if DEBUG else ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = not DEBUG
SECURE_HSTS_SECONDS = 0 if DEBUG else 3600
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG
LANGUAGE_COOKIE_SECURE = not DEBUG
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING", "propagate": True},
        "notifications": {"level": "INFO"},
        "asyncsite": {"level": "INFO"},
    },
}
