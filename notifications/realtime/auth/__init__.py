"""Who is at a connection, and whether still.

handshakes, sessions                 the user of a WebSocket, in batches, by Django's sessions
origin                               from which pages a WebSocket is opened
session_checker, credential_checker  close the connections of users who have signed out, or whose token is refused
"""
