from django.urls import path
from reports import views

urlpatterns = [
    path("", views.index),
    path("start/", views.start),
    path("start-all/", views.start_all),
]
