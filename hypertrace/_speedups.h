/* What _speedups.c and _operations.c share: slots of Python objects, and the steps of spans. */

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

/* Put a method into a class. */
INTERNAL int replace_method(PyTypeObject *type, PyMethodDef *method);

/* The offset of a slot in the objects of a class. */
INTERNAL int find_offset(PyObject *type, const char *name, Py_ssize_t *offset);

/* Add the function that speeds operations up, which is in _operations.c. */
INTERNAL int add_operations(PyObject *module);

#endif
