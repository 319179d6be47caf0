"""Sound as numbers: wire codecs, resampling, framing."""
