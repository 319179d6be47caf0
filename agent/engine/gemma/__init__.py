"""The resident Gemma 4 engine: hears while the person speaks, answers from its cache."""
