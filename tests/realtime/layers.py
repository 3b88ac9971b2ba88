"""Channel layers that drop, count or duplicate messages."""

from channels_redis.pubsub import RedisPubSubChannelLayer


class Dropping(RedisPubSubChannelLayer):
    """Drops every message."""

    async def group_send(self, group, message):
        pass


class Doubling(RedisPubSubChannelLayer):
    """Delivers every message twice."""

    async def group_send(self, group, message):
        for _ in range(2):
            await self._get_layer().group_send(group, message)
