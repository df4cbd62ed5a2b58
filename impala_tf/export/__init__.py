"""Agents as SavedModels: their format and how to read them (`saved_model`), and how to write them (`exporter`)."""
