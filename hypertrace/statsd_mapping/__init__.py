"""Mapping of StatsD names: dotted names become metrics with labels, as with statsd_exporter.

- `templates`: texts with references to what a name has;
- `rules`: which rule a name matches, and what it makes of it;
- `configuration`: rules from today's format of statsd_exporter, checked;
- `yaml_files`: that format in files;
- `old_format`: the format from before it was YAML;
- `own_names`: the mapping of the names that `StatsdExporter` sends;
- `command`: `hypertrace statsd-mapping`.

`hypertrace.stats.Stats(mapping=…)` uses the rules where code counts.
"""
