"""Agents as SavedModels: what is in one and reading it (`saved_model`), and writing one (`exporter`)."""
