"""Fixtures of tests that kill processes."""

import pytest


@pytest.fixture
def celery_site(postgres_site, request):
    """A site whose jobs run on Celery. A parameter is the share of messages that are lost."""
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    from tests.support.faults.celery_site import CelerySite

    celery_site = CelerySite(postgres_site, "celery", lost=getattr(request, "param", 0.0))
    yield celery_site
    celery_site.close()
