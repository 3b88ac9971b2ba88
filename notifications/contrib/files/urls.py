"""URLs of files, below those of the core."""

from django.urls import path

from notifications.contrib.files import views

urlpatterns = [
    path("files/", views.files_page, name="files"),
    path("files/<uuid:id>/", views.file, name="file"),
]
