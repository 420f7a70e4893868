"""Exposition: readings and third-party collectors as the text that Prometheus scrapes."""
