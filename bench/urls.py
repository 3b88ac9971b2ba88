"""The URLs of the site and of the benchmarks."""

from django.urls import include, path

from bench import telling, views

urlpatterns = [
    path("ask/", views.ask),
    path("bench/accepted/", views.ask_accepted),
    path("bench/aaccepted/", views.aask_accepted),
    path("bench/row/", views.row),
    path("bench/arow/", views.arow),
    path("setup/", telling.setup),
    path("", include("asyncsite.urls")),
]
