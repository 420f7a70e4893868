"""Prometheus exporter: shows the readings of a `Metrics` to Prometheus, and serves them.

`prometheus_client` and the server load when an exporter is made, not when this is imported.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from hypertrace import suppress_tracing
from hypertrace.exporters.exporter import Exporter

from .options import check_absent, check_pushed, checked_path, checked_registry

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any, Unpack
    from wsgiref.types import WSGIApplication

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    from hypertrace.metrics import CountingOptions, Metrics

    from .http.asgi import ASGIApp
    from .http.tls import File
    from .pushgateway import Pushgateway, PushgatewayExporter
    from .runs import Run
    from .shared_server import SharedServer
    from .snapshot import Snapshot


class PrometheusExporter(Exporter):
    """Shows what a `Metrics` counts to Prometheus, and serves it.

    Give it to `hypertrace.set_trace_function`, and its `Metrics` counts every `trace()` and times
    every span. Any thread may trace, scrape and stop it. After `stop()` its metrics are on no page
    any more; it may still be called.

    Attributes:
        registry: the registry its metrics are on.
        wsgi_app: the metrics as a WSGI application, to be mounted in another server.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        port: int | None = None,
        *,
        metrics: Metrics | None = None,
        host: str = "127.0.0.1",
        strict_port: bool = False,
        path: str = "/metrics",
        certfile: File | None = None,
        keyfile: File | None = None,
        client_ca: File | None = None,
        auth: str | None = None,
        push: str | None = None,
        job: str | None = None,
        grouping: Mapping[str, str] | None = None,
        push_auth: str | None = None,
        push_at_exit: bool = True,
        registry: CollectorRegistry | None = None,
        collect_defaults: bool = True,
        **counting: Unpack[CountingOptions],
    ) -> None:
        """Register the metrics, and start a metrics server if a port is given.

        Args:
            port: where the metrics server listens, 0 for a free port; None starts no server. Of
                processes that share their counts one serves for all, and another when that has
                ended; 0 is the same free port for all. A port that another program has is tried
                again until it is free, and a warning names the program if that is known.
            metrics: what to show; None makes one, with the arguments in `counting`.
            host: address it listens on. Beyond loopback, everyone who reaches it reads the metrics,
                unless `auth` or `client_ca` is given. On loopback, requests that name another host
                are refused.
            strict_port: raise where another program has the port.
            path: where the server shows the metrics; the page at `/` links to it.
            certfile: PEM file with the server's certificate, for TLS 1.2 or later and never HTTP in
                the clear. This and the next two are paths; all files are read once.
            keyfile: PEM file with the key of the certificate, not encrypted.
            client_ca: PEM file with authorities; only clients with a certificate of one are served.
            auth: where the credentials are that a client must send one of, `"file:PATH"` or
                `"env:NAME"`: a line each, `name:password` or `Bearer TOKEN`.
            push: `http://HOST:PORT` of a Pushgateway, for a program that ends before it is scraped.
            job: label `job` of what is pushed; needed with `push`.
            grouping: further labels of it, such as `{"instance": "db-1"}`. Programs that push with
                the same job and grouping replace what each other has pushed.
            push_auth: where the credentials for the Pushgateway are, written as those of `auth`;
                the first line is sent, and read again for each push.
            push_at_exit: push when the program ends, within the 2 seconds that all exporters have
                together; what fails is logged. False leaves it to `push()`.
            registry: where the metrics go; None makes a registry of the exporter's own.
            collect_defaults: add the metrics of the process, the platform and the garbage collector
                that `prometheus_client` brings, unless the registry has them. Where processes share
                their counts, those of process and garbage collector are of each worker, with the
                label `worker`.
            counting: what is counted, and how: arguments of `hypertrace.metrics.Metrics`, among
                them `allowed_props`, `object_ids`, `max_series`, `buckets`, `native_histograms` and
                `upstream`.

        Raises:
            ValueError: a wrong argument of `Metrics`, or one together with `metrics`; a registry
                that has these metrics already, half of TLS, a file or variable that is not what it
                should be, a path that cannot be one, or TLS or `auth` without a port.
            TypeError: an argument of the wrong type.
            OSError: the port is reserved, the host is not one of this machine, or, with
                `strict_port`, another program has the port; the message names it. Or a file cannot
                be read; `filename` names it.
        """
        security: dict[str, Any] = {
            "certfile": certfile,
            "keyfile": keyfile,
            "client_ca": client_ca,
            "auth": auth,
        }
        if port is None:
            check_absent(security)
        check_pushed(push, {"job": job, "grouping": grouping, "push_auth": push_auth})
        self._path = checked_path(path)
        # All that runs later is imported now. An import in a forked child waits for ever if another
        # thread of its parent was at the same import.
        from .endpoint import make_wsgi_app
        from .exposition.collector import ExporterCollector
        from .exposition.process import missing_defaults, present_defaults
        from .exposition.registries import add_target, remove_target, watch
        from .exposition.render import render
        from .exposition.workers import NAMES, WorkersMetrics
        from .pushgateway import Pushgateway, PushgatewayExporter
        from .snapshot import take_snapshot
        from .textfile import write_textfile

        gateway = None if push is None else Pushgateway(push, job, grouping, push_auth)
        self.registry: CollectorRegistry = checked_registry(registry)
        super().__init__(metrics, counting, name="" if port is None else f"{host}:{port}")
        self._collectors: list[Collector] = []
        self._target: dict[str, str] | None = None
        self._server: SharedServer | None = None
        self._gateway: Pushgateway | None = gateway
        self._pusher: PushgatewayExporter | None = None
        self._render = render
        self._remove_target = remove_target
        self._snapshot = partial(take_snapshot, self.registry, self.forwards_to)
        self._write_textfile = write_textfile
        self.wsgi_app: WSGIApplication = make_wsgi_app(self.registry)
        watch(self.registry)
        try:
            workers = None
            if collect_defaults and self.forwards_to.storage.is_shared:
                workers = WorkersMetrics(shows_itself=not self.forwards_to.storage.is_observer)
            others = present_defaults(self.registry) if workers else frozenset[str]()
            self._register(ExporterCollector(self.forwards_to, workers, others))
            if collect_defaults:
                instead = NAMES if workers else frozenset[str]()
                for collector in missing_defaults(self.registry, instead):
                    self._register(collector)
            self._target = add_target(self.registry, self.forwards_to.labels)
            if port is not None:
                self._server = self._served(host, port, security, strict_port=strict_port)
            if gateway is not None and push_at_exit:
                self._pusher = PushgatewayExporter(gateway, self._snapshot, self.forwards_to)
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int | None:
        """Port of the metrics server, None without one.

        In a process that stands by it is the port of the one that serves, None if no process has
        published one within a second, which takes a `port` of 0.
        """
        return None if self._server is None else self._server.port

    @property
    def url(self) -> str | None:
        """Where the metrics server shows the metrics, None without one; as `port`, for all."""
        url = None if self._server is None else self._server.url
        return None if url is None else f"{url}{self._path}"

    @cached_property
    def asgi_app(self) -> ASGIApp:
        """The metrics as an ASGI application, to be mounted in another server."""
        from .endpoint import make_asgi_app

        return make_asgi_app(self.registry)

    def metrics(self) -> str:
        """Return all metrics of the registry in the text format 0.0.4."""
        return self._render(self.registry).decode()

    def push(
        self,
        url: str | None = None,
        *,
        job: str | None = None,
        grouping: Mapping[str, str] | None = None,
        auth: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Push all metrics of the registry to a Pushgateway now, in the calling thread.

        They replace what was pushed before with the same job and grouping. The times of runs are
        pushed to another group, where that of the last success stays if a run has failed.

        Args:
            url: `http://HOST:PORT` of the Pushgateway. A name and a password may stand before the
                host. None: that of the argument `push` of the exporter, with its job and grouping.
            job: label `job` of all metrics.
            grouping: further labels of all metrics.
            auth: `"file:PATH"` or `"env:NAME"`, where the credentials are: `name:password` or
                `Bearer TOKEN`.
            timeout: seconds to wait for each step: the connection, the answers.

        Raises:
            OSError: it was not pushed; the message has the URL and the reason.
            TypeError: an argument of the wrong type.
            ValueError: a wrong argument, or no URL; the message says which.
            RuntimeError: the exporter was stopped.
        """
        from .pushgateway import Pushgateway

        if url is not None:
            gateway = Pushgateway(url, job, grouping, auth, timeout)
        elif self._gateway is None or (job, grouping, auth) != (None, None, None):
            raise ValueError(
                "push() needs the url of a Pushgateway with the job, or PrometheusExporter() the "
                "arguments push and job"
            )
        else:
            gateway = self._gateway
        snapshot = self._snapshot_of_running()
        suppress_tracing(gateway.push, snapshot)

    def write_textfile(self, path: str | os.PathLike[str]) -> None:
        """Write all metrics of the registry to a file for node_exporter, in the calling thread.

        The file is replaced in one step. All metrics get the label `job_name`, the name of the file
        without its end: files of several programs must not have the same series. The metrics of
        `collect_defaults` are left out. When a job has last succeeded, which an earlier program
        has written there, stays until that job succeeds again.

        Args:
            path: of the file, in the folder that node_exporter's option
                `--collector.textfile.directory` names; it ends in `.prom`.

        Raises:
            OSError: it was not written; the file is as it was.
            ValueError: the path ends in something else.
            RuntimeError: the exporter was stopped.
        """
        snapshot = self._snapshot_of_running(with_defaults=False)
        self._write_textfile(path, snapshot, self.forwards_to)

    def run(self, job: str) -> Run:
        """Return a context manager for one run of a job, as `with exporter.run("nightly"):`.

        At its end, the gauge `jobs_last_run_timestamp_seconds{job_name="nightly"}` is set to the
        time, and, unless an exception has ended it, `jobs_last_success_timestamp_seconds`, too.
        `SystemExit` with the code 0 or None is a success. Exceptions go on.

        Args:
            job: name of the job.

        Raises:
            TypeError: the name is no `str`.
            ValueError: it is empty, or another metric has the name of one of the gauges.
        """
        from .runs import Run

        return Run(self.forwards_to, job)

    def stop(self) -> None:
        """Take the metrics off the registry and stop the server, if that is not done yet.

        With `push` and `push_at_exit`, they are pushed before, within 2 seconds.
        """
        pusher, self._pusher = self._pusher, None
        if pusher is not None:
            pusher.stop()
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        collectors, self._collectors = self._collectors, []
        for collector in collectors:
            with suppress(KeyError):  # another thread, or the application, did it
                self.registry.unregister(collector)
        target, self._target = self._target, None
        self._remove_target(self.registry, target)
        super().stop()

    def _served(
        self, host: str, port: int, security: Mapping[str, Any], *, strict_port: bool
    ) -> SharedServer:
        from .http.addresses import check_address
        from .http.server import Security
        from .routes import routes
        from .shared_server import SharedServer

        check_address(host, port)
        storage = self.forwards_to.storage
        return SharedServer(
            partial(routes, self.registry, path=self._path, problem=lambda: storage.problem),
            host=host,
            port=port,
            security=Security(**security),
            locks=storage.locks,
            strict_port=strict_port,
        )

    def _snapshot_of_running(self, *, with_defaults: bool = True) -> Snapshot:
        if not self._collectors:
            raise RuntimeError(
                "the exporter was stopped, and has no metrics: do this before stop()"
            )
        return self._snapshot(with_defaults=with_defaults)

    def _register(self, collector: Collector) -> None:
        self._collectors.append(collector)  # first: an interrupt must leave none that stays
        try:
            self.registry.register(collector)
        except ValueError as error:
            raise ValueError(
                f"the registry has metrics of these names already ({error}): stop() the exporter "
                "that is on it, or use another registry"
            ) from error
