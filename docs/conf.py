"""Sphinx builds these pages: ``make docs``, then open ``build/docs/index.html``."""

import os
import re
import sys
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asyncsite.settings")
django.setup()

project = "asyncsite-notifications"
author = "the maintainers"
version = release = re.search(r'"(.+)"', (ROOT / "notifications/__init__.py").read_text())[1]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["requirements.txt"]
html_theme = "furo"
html_title = project
html_search_scorer = str(ROOT / "docs/search_scorer.js")
html_extra_path = ["../notifications/llms.txt"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_mock_imports = ["billiard", "celery", "kombu"]  # the site has none of them
autodoc_typehints = "signature"
# Examples of HTTP are shortened with "…" and leave out headers.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app):
    from search_terms import add_terms

    def add_to_source(app, name, source):
        source[0] = add_terms(name, source[0])

    app.connect("source-read", add_to_source)
