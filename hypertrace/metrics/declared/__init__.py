"""Declared metrics: what an application counts of the events that its tracers emit."""
