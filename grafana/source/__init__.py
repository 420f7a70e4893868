"""The program that makes the dashboards: `python -m grafana.source`.

- `queries`: PromQL, with the names of metrics and labels taken from the exporter;
- `panels`: what a panel of ours looks like;
- `board`: what a dashboard of ours has around its panels: variables, links, a place in the grid;
- `overview`, `class_explorer`, `call_graph`, `process`, `health`: a dashboard each.
"""
