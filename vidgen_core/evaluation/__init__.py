"""Measures of generated videos, each with its interval and its floor."""
