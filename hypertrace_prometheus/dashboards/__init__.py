"""Grafana dashboards and Prometheus rules for what the exporter exposes.

- `templates`: the dashboards, for anyone's counter name and props;
- `integrated`: names of the metrics of integrations;
- `rules`: recording and alerting rules;
- `objectives`: alerts that burn rates of service level objectives raise;
- `grafana`: bringing dashboards into a Grafana that runs;
- `files`: all of these as text, and written into a folder;
- `command`: `hypertrace dashboards` and `hypertrace dashboards push`.
"""
