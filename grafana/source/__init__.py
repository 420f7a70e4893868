"""Program that makes the dashboards: `python -m grafana.source`.

- `queries`: PromQL, with the names of metrics and labels taken from the exporter;
- `parts`: what panels of any kind are made of;
- `graphs`, `tables`, `panels`: what a panel of ours looks like, a function a kind;
- `vitals`: panels of the whole application and of one class alike;
- `timed`: panels of work that is timed, as requests, jobs and queries;
- `events`: deploys, restarts and alerts on the time axes;
- `board`: what a dashboard of ours has around its panels: variables, links, a place in the grid;
- `overview`, `http_server`, `jobs`, `http_clients`, `sql`, `runtime`, `class_explorer`,
  `call_graph`, `process`, `health`: a dashboard each.
"""
