"""Evaluates trained agents: plays full episodes without learning, computes scores, and renders videos."""
