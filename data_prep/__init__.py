"""Raw videos to scored, captioned, encoded clips in Delta tables."""
