"""Job at night that ends before a scrape is possible: its counts are lines of JSON.

    python examples/night_job.py                 prints a line of JSON at its end
    python examples/night_job.py metrics.jsonl   appends it to a file

It always does the same work, so the numbers are known; only how long it takes varies a little.
"""

import argparse
import sys
from contextlib import suppress

from hypertrace import Tracer, set_trace_function, traced
from hypertrace.exporters.json_lines import JsonLinesExporter

INVOICES = {"Ann": [12, 30], "Bo": [7], "Cleo": []}


class MailboxFullError(Exception):
    """There is no room for an invoice."""


class Mailer:
    """Sends invoices."""

    def __init__(self, channel: str) -> None:
        self.tracer = Tracer(self, {"channel": channel})

    @traced
    def send(self, customer: str, total: int) -> None:
        """Send an invoice, or raise `MailboxFullError`."""
        if customer == "Bo":
            raise MailboxFullError(total)


class Job:
    """Sums up what each customer owes."""

    def __init__(self, mailer: Mailer) -> None:
        self.tracer = Tracer(self)
        self._mailer = mailer

    def run(self) -> None:
        """Send an invoice to each customer who owes something."""
        for customer, amounts in INVOICES.items():
            with self.tracer.span(outcome="sent") as span, suppress(MailboxFullError):
                if amounts:
                    self._mailer.send(customer, sum(amounts))
                else:
                    span.set(outcome="nothing owed")


def main() -> None:
    """Run the job with tracing on."""
    parser = argparse.ArgumentParser(description="A job whose counts are lines of JSON.")
    parser.add_argument("path", nargs="?", help="file to append to, instead of printing")
    arguments = parser.parse_args()

    to = arguments.path or sys.stdout
    set_trace_function(JsonLinesExporter(to, allowed_props=["channel", "outcome"]))
    Job(Mailer("mail")).run()
    # What came in since the last line is written when the program ends.


if __name__ == "__main__":
    main()
