"""Channel layers that behave badly."""

from channels_redis.pubsub import RedisPubSubChannelLayer


class Dropping(RedisPubSubChannelLayer):
    """Takes every message and loses it."""

    async def group_send(self, group, message):
        pass


class Doubling(RedisPubSubChannelLayer):
    """Brings every message twice."""

    async def group_send(self, group, message):
        for _ in range(2):
            await self._get_layer().group_send(group, message)
