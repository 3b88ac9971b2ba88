"""Channel layers that behave badly."""

from channels_redis.pubsub import RedisPubSubChannelLayer


class Dropping(RedisPubSubChannelLayer):
    """Takes every message and loses it."""

    async def group_send(self, group, message):
        pass


class Counting(RedisPubSubChannelLayer):
    """Counts in `sent` what it is given."""

    sent = 0

    async def group_send(self, group, message):
        Counting.sent += 1
        await self._get_layer().group_send(group, message)


class Doubling(RedisPubSubChannelLayer):
    """Brings every message twice."""

    async def group_send(self, group, message):
        for _ in range(2):
            await self._get_layer().group_send(group, message)
