"""Text and video encoders by name."""
