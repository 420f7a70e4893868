"""Live page: three buttons over a WebSocket, and how long each takes to change the colour.

    pip install 'hypertrace[prometheus]' starlette uvicorn websockets
    python examples/live_buttons.py           serves http://127.0.0.1:4346 and /metrics
    python examples/live_buttons.py --once    clicks all buttons, prints the metrics and ends

The page does not measure anything, and neither does `live`, which handles the clicks: the
integration measures each message, from its receipt to the answer, by route and event.
"""

import argparse
import asyncio
import json
import threading
from contextlib import suppress
from urllib.request import urlopen

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from hypertrace import set_trace_function
from hypertrace.integrations import install
from hypertrace_prometheus import PrometheusExporter

SECONDS = {"red": 0.01, "yellow": 0.05, "green": 0.2}
"""How long it takes to change to each colour."""

PAGE = """<!doctype html>
<title>Live buttons</title>
<body>
<button value="red">red</button> <button value="yellow">yellow</button>
<button value="green">green</button> <a href="/metrics/">metrics</a>
<script>
  const socket = new WebSocket(`ws://${location.host}/live`);
  socket.onmessage = (message) => document.body.style.background = message.data;
  for (const button of document.querySelectorAll("button"))
    button.onclick = () => socket.send(JSON.stringify({event: button.value}));
</script>
"""


async def page(_: Request) -> HTMLResponse:
    """Answer with the page."""
    return HTMLResponse(PAGE)


async def live(websocket: WebSocket) -> None:
    """Answer each click with the colour, after some work."""
    await websocket.accept()
    async for text in websocket.iter_text():
        colour = json.loads(text)["event"]
        await asyncio.sleep(SECONDS[colour])
        await websocket.send_text(colour)


def event_of(message: str | bytes) -> str:
    """Return the name of a message: that of the button."""
    event: str = json.loads(message)["event"]
    return event


exporter = PrometheusExporter()  # no port: the application serves the page
set_trace_function(exporter)
install("starlette", event_of=event_of)
app = Starlette(
    routes=[
        Route("/", page),
        WebSocketRoute("/live", live),
        Mount("/metrics", app=exporter.asgi_app),
    ]
)


def click_and_print(port: int) -> None:
    """Click the buttons as a browser does, and print what was measured."""
    address = f"127.0.0.1:{port}"
    with connect(f"ws://{address}/live") as socket:
        for colour in ("red", "yellow", "green", "red"):
            socket.send(json.dumps({"event": colour}))
            print(f"It is {socket.recv()}.")
    with urlopen(f"http://{address}/metrics/") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(("websocket_", "http_", "entry_")) and "_bucket" not in line:
                print(line)


def main() -> None:
    """Serve the page."""
    parser = argparse.ArgumentParser(description="A page with three buttons.")
    parser.add_argument("--once", action="store_true", help="click, print the metrics and end")
    parser.add_argument("--port", type=int, default=4346, help="where to serve the page")
    arguments = parser.parse_args()
    config = uvicorn.Config(app, port=arguments.port, log_level="warning")
    server = uvicorn.Server(config)
    if not arguments.once:
        print(f"http://127.0.0.1:{arguments.port} and /metrics", flush=True)
        with suppress(KeyboardInterrupt):
            server.run()
        return
    listener = config.bind_socket()
    listener.listen()  # connections wait until the server accepts them
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        click_and_print(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
