"""The server: sockets, limits and the driver that joins session and engine."""
