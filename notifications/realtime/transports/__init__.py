"""The ways to a client: the WebSocket, Server-Sent Events, and long polls. Each is a subscriber of the hub."""
