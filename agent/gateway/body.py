"""The body of a request, as far as a stranger may send one."""

from __future__ import annotations

from starlette.requests import Request


async def read_body(request: Request, limit_bytes: int) -> bytes | None:
    """All of it; None as soon as it is above the limit."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            return None
    return bytes(body)
