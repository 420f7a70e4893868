"""Traced application that does real work: a library of Python's documentation.

It reads the docstrings of the standard library, indexes them by topic, and
answers the questions of visitors who take them from the texts. Nothing in it
knows about Prometheus: as any library would, it only holds tracers; what is
worth timing is a span, or decorated with `@traced`. What begins in a thread is an entry: a search,
which a visitor waits for, and the job of the librarian. Read it as an example, from the root down:

- `library`: the root object, whose tracer is the parent of the others;
- `documents`: source files, and the docstrings found in them;
- `index`: which word occurs in which document, one shard a topic;
- `search`: questions to answers, with a cache and spelling help;
- `workload`: visitors and a librarian, in threads, at a pace that varies;
- `ledger`: what the application counted itself, to check Prometheus against;
- `session`: turns tracing on, and shows the counts while the library runs;
- `command`: `hypertrace demo`.
"""
