"""The URLs of docs/how-to/frameworks.md for Django Ninja with ATOMIC_REQUESTS."""

from django.urls import include, path

from tests.docs.pages import DOCS, blocks
from tests.http.framework_views import ninja
from tests.support.core_alone import host_urls

(marked,) = (block for block in blocks(DOCS / "how-to/frameworks.md", "python") if "non_atomic" in block)
names = {"api": ninja["api"]}
exec(marked, names)
urlpatterns = [*names["urlpatterns"], path("", include(host_urls()))]
