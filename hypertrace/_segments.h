/* What the files of the compiled core share. */

#ifndef HYPERTRACE_SEGMENTS_H
#define HYPERTRACE_SEGMENTS_H

#include <stdint.h>

#if defined(_WIN32) || defined(__wasm__)
#define HAVE_SEGMENTS 0
#else
#define HAVE_SEGMENTS 1
#endif

/* Whether functions are traced by rewriting their code. */
#if defined(Py_PYTHON_H) && PY_VERSION_HEX >> 16 == 0x030B && !defined(PYPY_VERSION)
#define HAVE_BYTECODE 1
#else
#define HAVE_BYTECODE 0
#endif

/* Seen in this extension only; placed at the start of a cache line. */
#if defined(__GNUC__) || defined(__clang__)
#define INTERNAL __attribute__((visibility("hidden")))
#define LINE_ALIGNED __attribute__((aligned(64)))
#else
#define INTERNAL
#define LINE_ALIGNED
#endif

/* Without a GIL, an object's lock protects its slots and entries; CPython takes the same lock to set
   a slot. With a GIL, no code between the two macros releases it. The macros form a block. */
#ifndef Py_BEGIN_CRITICAL_SECTION /* before CPython 3.13 */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#define LONGEST 1e15 /* seconds: sums of durations up to it stay finite */

typedef struct {
    PyObject_HEAD
    uint64_t *place; /* what is incremented: `of.count`, or a cell of a segment */
    union {
        uint64_t count;    /* in memory */
        PyObject *segment; /* holds the place */
    } of;
} Cell;

INTERNAL int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type);

/* Kinds of cells that are numbers, in _cells.c. */
typedef enum { FLOAT_CELL, NUMBER_CELL, GAUGE_CELL, HISTOGRAM_CELL, DURATIONS_CELL } CellKind;

extern INTERNAL PyTypeObject *shared_histogram_type;

/* Add a duration, in seconds, to a SharedHistogram. */
INTERNAL void shared_histogram_record(PyObject *histogram, double seconds);

/* Return how many 8-byte cells one of a kind has; `bounds` is a tuple, NULL if it has no buckets. */
INTERNAL Py_ssize_t size_of_cell(CellKind kind, PyObject *bounds);

/* Return one at a place in a segment. */
INTERNAL PyObject *make_cell(CellKind kind, PyObject *segment, uint64_t *place, PyObject *bounds);

/* Add the types of these cells to the module. */
INTERNAL int add_cells(PyObject *module);

/* Whether an object is a HistogramCell. */
INTERNAL int is_histogram(PyObject *object);

/* Return the number that a value is for a HistogramCell, as its add() takes it; 0 if there is none, -1
   with an exception. */
INTERNAL int number_for_histogram(PyObject *histogram, PyObject *value, double *number);

/* Add a finite value to a HistogramCell. */
INTERNAL void record_in_histogram(PyObject *histogram, double value);

/* Add a value to a SampleCell. */
INTERNAL void add_sample(PyObject *samples, double value);

/* Whether an object is a SampleCell. */
INTERNAL int is_samples(PyObject *object);

/* Add the type of samples to the module. */
INTERNAL int add_samples(PyObject *module);

/* Whether a page can have so many counts in each of so many slots; 0 with an exception if not. */
INTERNAL int are_page_sizes(Py_ssize_t size, Py_ssize_t slots);

/* Return how many 8-byte cells a page has: counts, or slots of a stamp and counts. */
INTERNAL Py_ssize_t size_of_page(Py_ssize_t size, Py_ssize_t slots);

/* Return a page at a place in a segment. */
INTERNAL PyObject *make_page(PyObject *segment, uint64_t *place, Py_ssize_t size, Py_ssize_t slots);

/* Add the types of buckets to the module. */
INTERNAL int add_buckets(PyObject *module);

#if HAVE_BYTECODE
/* Return a code object that does the same, and uses operators on a record in between; ValueError if
   it is not what the compiler makes. */
INTERNAL PyObject *rewrite_code(PyObject *code, PyObject *record);

/* Add the function that rewrites code, which is in _bytecode.c. */
INTERNAL int add_bytecode(PyObject *module);
#endif

#if HAVE_SEGMENTS
/* Add the types and functions of segments to the module. */
INTERNAL int add_segments(PyObject *module, PyTypeObject *cells);

/* Add the functions for SIGTERM, which are in _signals.c. */
INTERNAL int add_signals(PyObject *module);

/* Add the type that times collections of garbage, which is in _pauses.c. */
INTERNAL int add_pauses(PyObject *module);
#endif

#endif
