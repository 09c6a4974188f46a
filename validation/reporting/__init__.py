"""Results on disk and what people read."""
