"""What people do with a trained generator."""
