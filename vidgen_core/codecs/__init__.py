"""Video autoencoders by name."""
