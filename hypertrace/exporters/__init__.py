"""Exporters that push: each brings the counts of a `Metrics` to one backend.

Each is in its own module, which loads when it is imported.
"""
