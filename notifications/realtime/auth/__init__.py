"""Who is at a connection, and whether still: sessions, the Origin header, sign-outs."""
