"""The page on installation: the list of all optional apps, copied into a fresh project."""

import re

import pytest

from tests.docs.pages import section
from tests.docs.project import Project

#: The modules of the packages of each extra.
MODULES = {
    "celery": ["celery"],
    "compression": ["brotli"],
    "opentelemetry": ["opentelemetry"],
    "postgres": ["psycopg", "psycopg_pool"],
    "prometheus": ["prometheus_client"],
    "push": ["pywebpush", "py_vapid"],
    "redis": ["redis", "channels_redis"],
    "uvicorn": ["uvicorn"],
}


@pytest.mark.timeout(300)
def test_a_project_with_all_optional_apps_starts(tmp_path):
    """With the packages that the section installs: it cannot import those of other extras."""
    project = Project(tmp_path)
    text = section("how-to/install.md", "Add optional apps")
    extras = {
        extra
        for names in re.findall(r"asyncsite-notifications\[([\w,]+)\]", text)
        for extra in names.split(",")
    }
    missing = [module for extra, modules in MODULES.items() if extra not in extras for module in modules]
    installed = next(block for block in re.findall(r"^```python$\n(.*?)^```$", text, re.M | re.S))
    assert installed.count("    ...\n") == 1
    project.add_settings(
        f"import sys\nsys.modules.update(dict.fromkeys({missing}))\n",
        installed.replace("    ...\n", '    *APPS, "mysite"\n'),
    )
    project.run("manage.py", "migrate", "--verbosity", "0")
    project.run("manage.py", "check")
