"""What each stage does, by name: recipe in, library calls, facts out."""
