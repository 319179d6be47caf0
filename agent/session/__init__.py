"""The sans-I/O session: a conversation without clock, socket, thread or await."""
