"""Lego's names of StatsD: what its code counts, and the series that its mapping makes of each."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypertrace.stats import Stats

CONF = Path(__file__).parent / "lego.conf"
"""The mapping, in the old format."""


class Stat(NamedTuple):
    """One line of the table of what Lego counts."""

    stat: str
    is_timing: bool
    metric: str
    """That the mapping makes of it."""
    labels: Mapping[str, str] = MappingProxyType({})
    """Besides the system and the environment."""

    def call(self, stats: Stats) -> None:
        """Count it, as Lego does."""
        if self.is_timing:
            stats.timing(self.stat, 250)
        else:
            stats.incr(self.stat)

    @property
    def shown(self) -> str:
        """The name of the metric in hypertrace."""
        is_whole = self.is_timing or self.metric.endswith("_total")
        return self.metric if is_whole else f"{self.metric}_total"

    def labels_in(self, environment: str) -> dict[str, str]:
        """Return all labels of the series."""
        return {"system": "lego", "environment": environment, **self.labels}


def _feed(part: str, *, is_timing: bool = False) -> Stat:
    return Stat(f"NewsFeed.{part}", is_timing, f"feed_{part}", {"feed": "NewsFeed"})


def _permission(part: str) -> Stat:
    return Stat(f"permissions.{part}", True, f"permissions_{part}")


def _search(part: str, *, is_timing: bool = False) -> Stat:
    return Stat(f"search.{part}", is_timing, f"search_{part}")


def _instance(action: str) -> Stat:
    labels = {"action": action, "application": "events", "model": "event"}
    return Stat(f"instance.{action}.events.event", False, "instance_event", labels)


def _http(part: str, name: str, *, is_timing: bool = True) -> Stat:
    metric = f"{part}_{name}"
    return Stat(f"{part}.{name}.GET", is_timing, metric, {"method": "GET"})


TABLE = [
    Stat("feed.attr_cache_context", True, "feed_attr_cache"),
    Stat("activities.published", False, "feed_activity_actions", {"action": "published"}),
    Stat("activities.removed", False, "feed_activity_actions", {"action": "removed"}),
    _feed("fanout_latency", is_timing=True),
    _feed("read_latency", is_timing=True),
    _feed("reads"),
    _feed("writes"),
    _feed("deletes"),
    Stat("NewsFeed.fanout.add", False, "feed_fanout", {"feed": "NewsFeed", "action": "add"}),
    Stat(
        "authentication.authenticate.oauth",
        False,
        "authentication_authenticate",
        {"provider": "oauth"},
    ),
    Stat("restricted_mail.process_message", True, "restricted_mail_process_message"),
    _permission("has_perm"),
    _permission("api_filter_queryset"),
    _permission("api_has_permission"),
    _permission("api_has_object_permission"),
    _permission("api_action_grant"),
    _search("autocomplete_query", is_timing=True),
    _search("search_query", is_timing=True),
    _search("search_index"),
    _search("search_remove"),
    _instance("create"),
    _instance("update"),
    _instance("delete"),
    Stat("task.send_email", True, "task_timing", {"task": "send_email"}),
    Stat("task.send_push", True, "task_timing", {"task": "send_push"}),
    _http("request", "total", is_timing=False),
    _http("response", "total", is_timing=False),
    _http("request", "latency"),
    _http("response", "latency"),
    _http("request", "unknown_latency"),
    _http("response", "unknown_latency"),
]
"""All of them, in the order of the table."""
