"""What Channels' own documentation shows: a consumer that joins its user's group and sends what comes."""

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class StockConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.group = f"user-{self.scope['user'].pk}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def note(self, event):
        await self.send_json(event["item"])
