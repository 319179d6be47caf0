"""Is somebody speaking? Frame scorers and the segmenter that finds turns and clips."""
