"""URLs with a language prefix, and static files."""

from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.static import serve

from tests.hosts.everything import views

urlpatterns = [
    path("favicon.ico", login_not_required(views.empty_view)),
    path("static/<path:path>", login_not_required(serve), {"document_root": settings.STATIC_ROOT}),
    *i18n_patterns(
        path("", views.start, name="start"),
        path("template/", views.render_template),
        path("async/", login_not_required(views.start_async)),
        path("export/function/<int:year>/", views.function_view),
        path("export/class/<int:year>/", views.ClassView.as_view()),
        path("export/async/<int:year>/", views.async_view),
        path("export/failing/<int:year>/", views.late_failing_view),
        path("export/broken/<int:year>/", views.failing_view),
        path("delete-me/", views.delete_view),
        path("delete-me/rolled-back/", views.rolled_back_delete_view),
        path("sign-in/", LoginView.as_view(), name="login"),
        path("sign-out/", LogoutView.as_view(), name="logout"),
        path("admin/", admin.site.urls),
        path("notifications/", include("notifications.urls")),
    ),
]
