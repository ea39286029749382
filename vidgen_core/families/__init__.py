"""Selectable video generators by name."""
