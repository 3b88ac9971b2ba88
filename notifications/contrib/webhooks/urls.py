"""URLs of webhooks and callbacks, which ``notifications.urls`` includes."""

from django.urls import path

from notifications.contrib.webhooks import api_views, callback_view

urlpatterns = [
    path("callbacks/<uuid:id>/", callback_view.callback, {"token": ""}, name="callback"),
    path("callbacks/<uuid:id>/<str:token>/", callback_view.callback),
    path("api/webhooks/", api_views.webhook_list, name="api-webhooks"),
    path("api/webhooks/<uuid:id>/", api_views.webhook_detail, name="api-webhook"),
    path("api/webhooks/<uuid:id>/rotate/", api_views.webhook_rotate, name="api-webhook-rotate"),
    path("api/webhooks/<uuid:id>/test/", api_views.webhook_test, name="api-webhook-test"),
    path("api/webhooks/<uuid:id>/resend/", api_views.webhook_resend, name="api-webhook-resend"),
    path("api/webhooks/<uuid:id>/attempts/", api_views.webhook_attempts, name="api-webhook-attempts"),
]
