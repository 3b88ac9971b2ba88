"""What people type into the search of the docs is on the page that answers it."""

from tests.docs.pages import DOCS

#: By a term, whose words stand on the page in any order, the page that answers it.
ANSWERS = {
    "API key": "how-to/frameworks",
    "asgi.py": "how-to/servers",
    "audit": "explanation/security",
    "backoff": "how-to/retries",
    "backup": "how-to/backups",
    "Celery": "how-to/celery",
    "channels": "how-to/channels",
    "comparison": "explanation/comparison",
    "connection pool": "how-to/production-several-machines",
    "CORS": "explanation/security",
    "cron": "how-to/schedules",
    "CSP": "explanation/security",
    "CSRF": "explanation/security",
    "database is locked": "how-to/install",
    "dead letter": "how-to/runbook",
    "digest": "how-to/preferences",
    "Django REST framework": "how-to/frameworks",
    "django-notifications-hq": "how-to/from-django-notifications-hq",
    "django-tasks-db": "how-to/from-django-tasks-db",
    "django-tenants": "how-to/install",
    "Docker": "how-to/containers",
    "file upload": "how-to/enqueue",
    "GDPR": "explanation/security",
    "gunicorn": "how-to/servers",
    "Heroku": "how-to/platforms",
    "htmx": "how-to/htmx",
    "debounce": "how-to/enqueue",
    "idempotency": "reference/http",
    "JWT": "explanation/security",
    "Kubernetes": "how-to/health-and-static",
    "Lambda": "how-to/platforms",
    "limit concurrency": "how-to/concurrency",
    "mobile app": "how-to/write-a-client",
    "multi-tenant": "how-to/install",
    "MySQL": "explanation/comparison",
    "nginx": "how-to/production-one-machine",
    "OAuth": "how-to/frameworks",
    "OpenTelemetry": "how-to/tracing",
    "PgBouncer": "how-to/production-several-machines",
    "Prometheus": "reference/metrics",
    "progress bar": "how-to/from-celery-progress",
    "pytest": "how-to/testing",
    "read replica": "how-to/frameworks",
    "Redis": "how-to/production-several-machines",
    "retry": "how-to/retries",
    "Sentry": "how-to/signals",
    "Slack": "how-to/slack",
    "SQLite": "how-to/install",
    "stuck": "how-to/runbook",
    "systemd": "how-to/production-one-machine",
    "timeout": "how-to/retries",
    "TypeScript": "how-to/bundlers",
    "unsubscribe": "how-to/email",
    "Vue": "how-to/react",
    "webhook": "how-to/webhooks",
    "WebSocket": "how-to/servers",
    "WSGI": "how-to/servers",
    "XSS": "explanation/security",
    "zero downtime": "how-to/upgrade",
}


def test_each_term_is_answered():
    texts = {page: (DOCS / f"{page}.md").read_text().lower() for page in set(ANSWERS.values())}
    assert len(ANSWERS) >= 50
    assert [
        (term, page)
        for term, page in ANSWERS.items()
        if not all(word in texts[page] for word in term.lower().split())
    ] == []
