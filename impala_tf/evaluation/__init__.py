"""Plays exported policies and says how well they do."""
