"""The URLs of the site, and Wagtail's admin where it is installed."""

from django.apps import apps
from django.urls import include, path

from asyncsite import urls

urlpatterns = list(urls.urlpatterns)
if apps.is_installed("wagtail.admin"):
    urlpatterns.insert(0, path("cms/", include("wagtail.admin.urls")))
