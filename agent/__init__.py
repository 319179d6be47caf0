"""A resident voice agent: live speech in, text out, over the OpenAI Realtime protocol."""

__version__ = "0.1.0"
