"""The site's settings, with the address that asks for a job that does nothing."""

from asyncsite.settings import *  # noqa: F403

ROOT_URLCONF = "bench.urls"
SECURE_SSL_REDIRECT = False
SESSION_COOKIE_SECURE = False
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
}
NOTIFICATIONS = {**NOTIFICATIONS, "SOCKETS_PER_USER": 100_000}  # noqa: F405
