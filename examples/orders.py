"""Orders: a FastAPI service with a database and an outgoing call, measured without a line for it.

    pip install 'hypertrace[prometheus]' fastapi uvicorn httpx sqlalchemy
    python examples/orders.py           serves http://127.0.0.1:4347/docs and /metrics
    python examples/orders.py --once    orders some things, prints the metrics and ends

`install_all()` measures the requests by route, the statements by table, and the calls to the
supplier by host: here that is the service itself.
"""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

import argparse
import threading
from contextlib import suppress

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hypertrace import set_trace_function
from hypertrace.integrations import install_all
from hypertrace_prometheus import PrometheusExporter

PRICES = {"tea": 4, "cup": 9, "pot": 25}

exporter = PrometheusExporter()  # no port: the service serves the page
set_trace_function(exporter)
install_all()


class Table(DeclarativeBase):
    """A table of the database."""


class Order(Table):
    """What was ordered, and its price."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    price: Mapped[int]


class Wish(BaseModel):
    """What a customer sends."""

    item: str


engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
Table.metadata.create_all(engine)
supplier = httpx.Client()
api = APIRouter(prefix="/orders")


@api.post("", status_code=201)
def order(wish: Wish) -> dict[str, int]:
    """Ask the supplier for the price, and keep the order."""
    answer = supplier.get(f"/supplier/{wish.item}")
    if answer.status_code != httpx.codes.OK:
        raise HTTPException(409, "sold out")
    with Session(engine) as session:
        made = Order(item=wish.item, price=answer.json())
        session.add(made)
        session.commit()
        return {"id": made.id, "price": made.price}


@api.get("/{id:int}")
def show(id: int) -> dict[str, str | int]:
    """Show an order."""
    with Session(engine) as session:
        found = session.get(Order, id)
    if found is None:
        raise HTTPException(404)
    return {"item": found.item, "price": found.price}


app = FastAPI(title="Orders")
app.include_router(api, prefix="/v1")


@app.get("/supplier/{item}")
async def supply(item: str) -> int:
    """Answer as the supplier does."""
    if item not in PRICES:
        raise HTTPException(404)
    return PRICES[item]


app.mount("/metrics", exporter.asgi_app)


def order_and_print(url: str) -> None:
    """Order some things, and print what was measured."""
    with httpx.Client(base_url=url) as customer:
        for wish in ("tea", "pot", "tea", "crown"):
            print(f"{wish}: {customer.post('/v1/orders', json={'item': wish}).status_code}")
        for path in ("/v1/orders/1", "/v1/orders/99", "/nothing"):
            print(f"{path}: {customer.get(path).status_code}")
        for line in customer.get("/metrics/").text.splitlines():
            if line.startswith(("http_", "db_", "entry_", "model_")) and "_bucket" not in line:
                print(line)


def main() -> None:
    """Serve the orders."""
    parser = argparse.ArgumentParser(description="A service that takes orders.")
    parser.add_argument("--once", action="store_true", help="order, print the metrics and end")
    parser.add_argument("--port", type=int, default=4347, help="where to serve")
    arguments = parser.parse_args()
    config = uvicorn.Config(app, port=arguments.port, log_level="warning")
    server = uvicorn.Server(config)
    with config.bind_socket() as listener:
        listener.listen()  # connections wait until the server accepts them
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        supplier.base_url = httpx.URL(url)
        if not arguments.once:
            print(f"{url}/docs and /metrics", flush=True)
            with suppress(KeyboardInterrupt):
                server.run([listener])
            return
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            order_and_print(url)
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
