"""Model files: pinned, fetched, verified, found."""
