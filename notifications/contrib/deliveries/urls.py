"""URLs of preferences, devices and unsubscribing, below those of the core."""

from django.urls import path

from notifications.contrib.deliveries import preference_api, preference_views, push_views, unsubscribing

urlpatterns = [
    path("preferences/", preference_views.preferences_page, name="preferences"),
    path("mute/", preference_views.mute, name="mute"),
    path("unmute/", preference_views.unmute, name="unmute"),
    path("unsubscribe/<str:token>/", unsubscribing.unsubscribe_page, name="unsubscribe"),
    path("devices/", push_views.devices_page, name="devices"),
    path("devices/<uuid:id>/remove/", push_views.remove_device, name="device-remove"),
    path("devices/state/", push_views.state, name="push-state"),
    path("devices/subscribe/", push_views.subscribe, name="push-subscribe"),
    path("devices/worker.js", push_views.worker, name="push-worker"),
    path("api/preferences/", preference_api.api_preferences, name="api-preferences"),
]
