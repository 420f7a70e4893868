"""Exporters that push: each brings the counts of a `Metrics` to one backend.

Each is in a module of its own, which loads when it is imported.
"""
