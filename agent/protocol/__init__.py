"""The OpenAI Realtime wire protocol: parse, validate, serialise."""
