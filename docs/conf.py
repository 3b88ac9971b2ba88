"""Sphinx builds these pages: ``make docs``, then open ``build/docs/index.html``."""

import json
import os
import re
import shutil
import subprocess
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
html_extra_path = ["../notifications/AGENTS.md", "../notifications/llms.txt"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_mock_imports = ["billiard", "celery", "kombu"]  # the site has none of them
autodoc_typehints = "signature"
# Examples of HTTP are shortened with "…" and leave out headers.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app):
    from search_terms import SEARCH_TERMS, add_terms
    from sphinx.util.logging import getLogger

    def add_to_source(app, name, source):
        source[0] = add_terms(name, source[0])

    def check_search(app, error):
        """Warn of terms that do not lead to their page within three hits of the search. Needs Node.js."""
        if error or app.builder.name != "html" or not (node := shutil.which("node")):
            return
        pages = {term: re.split("[ #]", address)[0] for term, address in SEARCH_TERMS.items()}
        done = subprocess.run(
            [node, ROOT / "docs/search_check.js", app.outdir],
            input=json.dumps(pages),
            capture_output=True,
            text=True,
            check=False,
        )
        for line in (done.stdout + done.stderr).splitlines():
            getLogger(__name__).warning("Search for %s", line)

    app.connect("source-read", add_to_source)
    app.connect("build-finished", check_search)
