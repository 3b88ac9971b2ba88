"""Fixtures of tests that kill processes."""

import pytest


@pytest.fixture
def celery_site(postgres_site):
    """A site whose jobs run on Celery."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    from tests.faults.support.celery_site import CelerySite

    # Lost ids are given again sooner, so that more rounds fit into an hour.
    celery_site = CelerySite(postgres_site, "celery")
    yield celery_site
    celery_site.close()
