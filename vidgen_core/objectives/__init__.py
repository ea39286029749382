"""Losses as functions of predictions; they know no network."""
