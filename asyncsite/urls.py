"""URLs of the site."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.i18n import set_language

from asyncsite import check, publishing, views
from asyncsite.style.view import style

urlpatterns = [
    path("", views.reports, name="home"),  # A redirect would cost a round trip.
    path("reports/", views.reports, name="reports"),
    path("reports/table/", views.report_table, name="report-table"),
    path("reports/<int:pk>/", views.report, name="report"),
    path("reports/<int:pk>/content/", views.report_content, name="report-content"),
    path("reports/<int:pk>/delete/", views.delete_report, name="report-delete"),
    path("reports/<int:pk>/retry/", views.retry_calls, name="report-retry"),
    path("reports/<int:pk>/report.csv", views.report_csv, name="report-csv"),
    path("reports/<int:pk>/report.json", views.report_json, name="report-json"),
    path("reports/<int:pk>/publish/", publishing.publish_report, name="report-publish"),
    path("reports/<int:pk>/unpublish/", publishing.unpublish_report, name="report-unpublish"),
    path("public/<str:token>/", publishing.public_report, name="public-report"),
    path("check/", check.check, name="check"),
    path("style/", style, name="style"),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("language/", set_language, name="set_language"),
    # Browsers request it for pages that name no icon: plain text, and JSON.
    path("favicon.ico", views.favicon, name="favicon"),
    path("admin/", admin.site.urls),
    path("notifications/", include("notifications.urls")),
]
