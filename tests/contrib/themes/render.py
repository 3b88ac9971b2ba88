"""Print pages of the admin as a superuser sees them, as JSON: status and text by path."""

import json
import sys

import django


def main(paths):
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.checks import run_checks
    from django.test import Client
    from django.test.utils import get_runner, setup_test_environment

    setup_test_environment()
    databases = get_runner(settings)(verbosity=0).setup_databases()
    try:
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("root", "root@users.example", "secret"))
        pages = {}
        for path in paths:
            response = client.get(path, follow=True)
            pages[path] = response.status_code, response.content.decode()
        ids = [
            message.id
            for message in run_checks(tags=["notifications"])
            if message.id in ("notifications.W001", "notifications.W034")
        ]
        print(json.dumps({"pages": pages, "checks": ids}))
    finally:
        get_runner(settings)(verbosity=0).teardown_databases(databases)


if __name__ == "__main__":
    main(sys.argv[1:])
