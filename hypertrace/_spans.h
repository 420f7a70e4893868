/* Spans, as the other files of the compiled core use them; in _speedups.c. */

#ifndef HYPERTRACE_SPANS_H
#define HYPERTRACE_SPANS_H

#include <Python.h>
#include "_speedups.h"

/* Drop an event if tracing is suppressed here. Return 1 if so, 0 if not, -1 with an exception. */
INTERNAL int drop_if_suppressed(void);

/* Whether a trace function is set. */
INTERNAL int is_tracing_on(void);

/* Whether an object is an enabled tracer. */
INTERNAL int is_tracer(PyObject *object);

/* Return the binding at a key of a tracer's table, as a strong reference; NULL if there is none. */
INTERNAL PyObject *find_binding(PyObject *tracer, Py_ssize_t address, PyObject *id);

/* Whether the spans of a binding know which span is around them. */
INTERNAL int tracks_edges(PyObject *binding);

/* Record the start of a span. */
INTERNAL int start_binding(PyObject *binding);

/* Seconds by the clock of spans; NaN if it fails. -1 with an exception. */
INTERNAL int read_clock(double *seconds);

INTERNAL PyObject *new_span(PyObject *binding, PyObject *tracer);
INTERNAL PyObject *span_enter(PyObject *self, PyObject *ignored);
INTERNAL PyObject *span_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

/* Record the end of a span that has no object yet and counts no edges; `busy` is NULL for one that
   runs in one step, `error` is None for one that ended well. Return -1 with an exception. */
INTERNAL int end_plain_span(PyObject *binding, PyObject *tracer, double began, double duration,
                            const double *busy, PyObject *error);

#endif
