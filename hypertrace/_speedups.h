/* What _speedups.c gives to the other files of the compiled core: slots of Python objects, the steps of
   spans, and how objects of the Python modules are found. */

#ifndef HYPERTRACE_SPEEDUPS_H
#define HYPERTRACE_SPEEDUPS_H

#include "_segments.h"

/* ---- Differences between builds -------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
#define ATOMIC_INCREMENT(place) ((void)__atomic_fetch_add((place), 1, __ATOMIC_RELAXED))
#define ATOMIC_LOAD(place) __atomic_load_n((place), __ATOMIC_RELAXED)
#define ATOMIC_STORE(place, value) __atomic_store_n((place), (value), __ATOMIC_RELEASE)
#else
#define ATOMIC_INCREMENT(place) ((void)++*(place))
#define ATOMIC_LOAD(place) (*(place))
#define ATOMIC_STORE(place, value) (*(place) = (value))
#endif

/* Return the value of a key in a dict, as a strong reference; NULL without an exception if there is
   none. */
static inline PyObject *
dict_find(PyObject *dict, PyObject *key)
{
#ifdef Py_GIL_DISABLED
    PyObject *value;
    PyDict_GetItemRef(dict, key, &value); /* also NULL with an exception */
    return value;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

/* ---- Slots of Python objects ----------------------------------------------------------------- */

static inline PyObject **
slot(PyObject *object, Py_ssize_t offset)
{
    return (PyObject **)((char *)object + offset);
}

/* Return the object in a slot, borrowed, only for comparison; NULL if it is not set. */
static inline PyObject *
peek_slot(PyObject *object, Py_ssize_t offset)
{
    return ATOMIC_LOAD(slot(object, offset));
}

/* Return the object in a slot, as a strong reference; NULL if it is not set. */
static inline PyObject *
get_slot(PyObject *object, Py_ssize_t offset)
{
    PyObject *value;
    Py_BEGIN_CRITICAL_SECTION(object);
    value = Py_XNewRef(*slot(object, offset));
    Py_END_CRITICAL_SECTION();
    return value;
}

static inline void
set_slot(PyObject *object, Py_ssize_t offset, PyObject *value /* stolen */)
{
    PyObject **place = slot(object, offset), *old;
    Py_BEGIN_CRITICAL_SECTION(object);
    old = *place;
    ATOMIC_STORE(place, value);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
}

/* ---- Steps of _speedups.c -------------------------------------------------------------------- */

/* Call swallow(error, culprit) if the exception is an `Exception`. Return 0 if it was swallowed. */
INTERNAL int swallow(PyObject *culprit);

/* Call a callable without arguments; cells are incremented without a call. */
INTERNAL int run(PyObject *callable);

/* Return the recorder at a key of a tracer's table, as a strong reference, or NULL. */
INTERNAL PyObject *find_recorder(PyObject *tracer, Py_ssize_t address, PyObject *id);

/* Return seconds by the clock of _span. */
INTERNAL PyObject *seconds(void);

/* Whether this thread may be in a finalizer that must not set the current span. */
INTERNAL int is_collecting(void);

/* Make a span the current one if its binding counts edges; store the enclosing one. */
INTERNAL int open_span(PyObject *self, PyObject *binding);

/* Span._close(), if edges are counted; sets `outer` to the innermost enclosing open span. */
INTERNAL int close_span(PyObject *self, PyObject *binding, PyObject *error, PyObject **outer);

/* Return the current span, a new reference. If it has ended, make an enclosing open one current. `self`
   is what fails if that does. */
INTERNAL PyObject *current_span(PyObject *self);

/* Whether an object is a duration that needs no event: a float from 0 to LONGEST. */
static inline int
is_duration(PyObject *object)
{
    return PyFloat_CheckExact(object) && PyFloat_AS_DOUBLE(object) >= 0 &&
           PyFloat_AS_DOUBLE(object) <= LONGEST;
}

/* Whether durations can be added to an object by append(). */
INTERNAL int takes_durations(PyObject *durations);

/* Add a duration to a list, a shared histogram or a group. Return how many wait there to be folded. */
INTERNAL Py_ssize_t append(PyObject *durations, PyObject *duration);

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

/* Put a method into a class. */
INTERNAL int replace_method(PyTypeObject *type, PyMethodDef *method);

/* Names of objects, and where they are stored. */
typedef struct {
    const char *name;
    PyObject **place;
} Named;

/* Slots of classes, and where their offsets in objects are stored. */
typedef struct {
    const char *owner, *name;
    Py_ssize_t *place;
} NamedSlot;

/* Store the names themselves. Return -1 with an exception. */
INTERNAL int intern_strings(const Named *strings, size_t count);

/* Store the objects that a namespace has. Those stored before are not released, since other threads may
   still use them. Return -1 with an exception. */
INTERNAL int take_objects(PyObject *names, const Named *objects, size_t count);

/* Store the offsets of the slots of classes that a namespace has. Return -1 with an exception. */
INTERNAL int find_offsets(PyObject *names, const NamedSlot *slots, size_t count);

/* Add the function that speeds operations up, which is in _operations.c. */
INTERNAL int add_operations(PyObject *module);

#endif
