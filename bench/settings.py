"""The site's settings, with the URLs of the benchmarks, any number of sockets, and a configurable channel layer.

Logging is that of a new project, where Django's loggers take records from INFO on.
"""

import os

from asyncsite.settings import *  # noqa: F403

LOGGING = {}
ROOT_URLCONF = "bench.urls"
SECURE_SSL_REDIRECT = False
SESSION_COOKIE_SECURE = False
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
}
if os.environ.get("BENCH_LAYER"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["BENCH_LAYER"]]},
        }
    }
NOTIFICATIONS = {**NOTIFICATIONS, "SOCKETS_PER_USER": 100_000, "JOBS_PER_MINUTE": 1_000_000}  # noqa: F405
NOTIFICATIONS["ACTIVE_JOBS_PER_USER"] = 100_000  # All jobs may have one owner.
