"""URLs of the tests of the core alone."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("admin/", admin.site.urls),
    path("notifications/", include("notifications.urls")),
]
