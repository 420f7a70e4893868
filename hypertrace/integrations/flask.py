"""Flask applications: their HTTP requests, by the rules of their routes.

`install("flask")` measures all applications of the process: requests from the call of the
application, with the middleware around its `wsgi_app`, to the last byte of the answer; see
`http_server` for the metrics, and `wsgi` for answers.

The route is that of `request.url_rule`, as `/items/<int:id>`, with the prefixes of blueprints, and
with the root of an application that is mounted below another; that of the path where the method
does not fit (405). It is `<unmatched>` where no rule fits, also for redirects of the router. An
exception without a handler is the type of error, whether Flask answers it with status 500 or passes
it on (`PROPAGATE_EXCEPTIONS`, `TESTING`). One that an `errorhandler` answers is not: then the
status counts. The test client is measured, too, when its answer is read.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_server import KEY, UNMATCHED, HttpServer
from .wsgi import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches


class Integration(HttpServer):
    """What is measured of Flask applications."""

    def patch(self, patches: Patches) -> None:
        """Replace what calls the application, and what dispatches a request.

        Args:
            patches: replaces it.
        """
        import flask

        def call(function: Callable[..., Any]) -> Callable[..., Any]:
            def __call__(self_: Any, environ: Any, start_response: Any) -> Any:  # noqa: N807
                application = MethodType(function, self_)
                return measured(self, application, environ, start_response, UNMATCHED)

            return __call__

        def dispatch(function: Callable[..., Any]) -> Callable[..., Any]:
            proxy: Any = flask.request
            current_request = proxy._get_current_object

            def full_dispatch_request(app: Any, *args: Any, **named: Any) -> Any:
                try:
                    current = current_request()
                    environ = current.environ
                    request = environ.get(KEY)
                    if request is not None:
                        rule = current.url_rule or _rule_of_another_method(app, current)
                        if rule is not None:
                            root = environ.get("SCRIPT_NAME")
                            request.route = self.route_below(root, rule.rule) if root else rule.rule
                except Exception as error:  # noqa: BLE001 -- the application must see nothing
                    swallow(error, self)
                return function(app, *args, **named)

            return full_dispatch_request

        patches.replace(flask.Flask, "__call__", call)
        patches.replace(flask.Flask, "full_dispatch_request", dispatch)
        failed = self._note_failure
        flask.got_request_exception.connect(failed, weak=False)
        patches.then(lambda: flask.got_request_exception.disconnect(failed))

    def _note_failure(self, _: Any, exception: BaseException, **__: Any) -> None:
        import flask

        try:
            request = flask.request.environ.get(KEY)
            if request is not None:
                request.fail(exception)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


def _rule_of_another_method(app: Any, current: Any) -> Any:
    """Return the rule of a path, if the method is what does not fit."""
    methods = getattr(current.routing_exception, "valid_methods", None)
    if not methods:
        return None
    return app.create_url_adapter(current).match(method=methods[0], return_rule=True)[0]
