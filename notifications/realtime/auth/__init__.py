"""Who is at a connection, and whether still.

handshakes, sessions  the user of a WebSocket, in batches, by Django's sessions; from which pages it is opened
sign_outs             closes the connections of users who have signed out, or whose token is refused
"""
