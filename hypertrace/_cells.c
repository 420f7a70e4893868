/* Cells of numbers: sums, gauges and histograms, in memory or in a segment.

   Each is some 8-byte cells, the same in both places. Python code of the same names in
   hypertrace.number_cells and hypertrace.metrics.shared.segment is the specification.

   Writing calls no Python once the number is known, so it is one step for threads, signals and
   finalizers. It is in an order that lets other processes read the cells at any moment, also those of
   a process that was killed or stopped in between. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include "_segments.h"

#define IN_ORDER() __atomic_thread_fence(__ATOMIC_RELEASE)

/* Upper bounds of buckets. Equal ones are shared, and never released: declarations are few. */
typedef struct Bounds {
    struct Bounds *next;
    Py_ssize_t count;
    double values[];
} Bounds;

typedef struct {
    PyObject_VAR_HEAD     /* its size is the number of cells in `own` */
    PyObject *segment;    /* holds the place; NULL: `own` is the place */
    PyObject *convert;    /* from Python: a function; NULL: none */
    const Bounds *bounds; /* of a histogram */
    PyObject *samples;    /* of a histogram: a SampleCell for its values; NULL: none */
    uint64_t *place;
    uint64_t own[];
} Numbers;

enum { NUMBER = 2, GAUGE = 6, HISTOGRAM = 3 /* and the buckets */ };

PyTypeObject *shared_histogram_type;
static PyTypeObject *float_type, *number_type, *gauge_type, *histogram_type;
static Bounds *all_bounds;

/* ---- Making, and what all have --------------------------------------------------------------- */

static Numbers *
make_numbers(PyTypeObject *type, PyObject *segment, uint64_t *place, Py_ssize_t size)
{
    Numbers *made = (Numbers *)type->tp_alloc(type, segment == NULL ? size : 0);
    if (made != NULL) {
        made->segment = Py_XNewRef(segment);
        made->place = segment == NULL ? made->own : place;
    }
    return made;
}

static int
numbers_traverse(PyObject *object, visitproc visit, void *arg)
{
    Numbers *self = (Numbers *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->segment);
    Py_VISIT(self->convert);
    return 0;
}

static int
numbers_clear(PyObject *object)
{
    Py_CLEAR(((Numbers *)object)->convert); /* the segment stays: the place is in it */
    return 0;
}

static void
numbers_dealloc(PyObject *object)
{
    Numbers *self = (Numbers *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->convert);
    Py_XDECREF(self->samples);
    Py_XDECREF(self->segment);
    type->tp_free(object);
    Py_DECREF(type);
}

static int
has_no_arguments(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) == 0 && (kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0))
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes no arguments", type->tp_name);
    return 0;
}

/* Return the number that a value is: an exact float or int that is finite, and not below zero if it
   only rises. Of any other, the number that `convert` returns. Return 0 if there is none, -1 with an
   exception. */
static int
number_of(Numbers *self, PyObject *value, int rises, double *number)
{
    for (int converted = 0;; converted++) {
        *number = Py_NAN;
        if (PyFloat_CheckExact(value))
            *number = PyFloat_AS_DOUBLE(value);
        else if (PyLong_CheckExact(value)) {
            *number = PyLong_AsDouble(value);
            if (*number == -1.0 && PyErr_Occurred()) {
                PyErr_Clear(); /* it is too large */
                *number = Py_NAN;
            }
        }
        if (converted)
            Py_DECREF(value);
        if (isfinite(*number) && (!rises || *number >= 0))
            return 1;
        if (converted)
            return 0;
        PyObject *convert;
        Py_BEGIN_CRITICAL_SECTION(self);
        convert = Py_XNewRef(self->convert);
        Py_END_CRITICAL_SECTION();
        if (convert == NULL) {
            PyErr_Format(PyExc_ValueError, "%R is no finite number%s", value,
                         rises ? " from 0 up" : "");
            return -1;
        }
        value = PyObject_CallOneArg(convert, value);
        Py_DECREF(convert);
        if (value == NULL)
            return -1;
    }
}

/* What protects the cells: the segment, or the object itself. */
static inline PyObject *
owner(Numbers *self)
{
    return self->segment == NULL ? (PyObject *)self : self->segment;
}

static PyObject *
get_convert(PyObject *object, void *Py_UNUSED(closure))
{
    PyObject *convert;
    Py_BEGIN_CRITICAL_SECTION(object);
    convert = Py_XNewRef(((Numbers *)object)->convert);
    Py_END_CRITICAL_SECTION();
    return convert == NULL ? Py_NewRef(Py_None) : convert;
}

static int
set_convert(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    Numbers *self = (Numbers *)object;
    PyObject *old, *made = value == Py_None ? NULL : Py_XNewRef(value);
    Py_BEGIN_CRITICAL_SECTION(object);
    old = self->convert;
    self->convert = made;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    return 0;
}

#define CONVERT                                                                                     \
    {"convert", get_convert, set_convert,                                                           \
     "A function that returns the float of what is no float or int, or None; None: there is none.", \
     NULL}

/* Start at zero again, in a forked child that has one thread. */
static PyObject *
numbers_reset(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Numbers *self = (Numbers *)object;
    memset(self->own, 0, (size_t)Py_SIZE(object) * sizeof(uint64_t));
    Py_RETURN_NONE;
}

#define RESET {"reset", numbers_reset, METH_NOARGS, "Start again, if these cells are in memory."}
#define FAST(function) (PyCFunction)(void (*)(void))function
#define FLAGS                                                                                       \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC)

/* ---- Float: the cell of a segment that is a float -------------------------------------------- */

static PyObject *
float_put(PyObject *object, PyObject *number, int keep)
{
    Numbers *self = (Numbers *)object;
    double value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred())
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile double *place = (double *)(void *)self->place;
    *place = keep ? *place + value : value;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
float_set(PyObject *self, PyObject *number)
{
    return float_put(self, number, 0);
}

static PyObject *
float_add(PyObject *self, PyObject *number)
{
    return float_put(self, number, 1);
}

static PyObject *
float_value(PyObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(*(volatile double *)(void *)((Numbers *)self)->place);
}

static PyMethodDef float_methods[] = {
    {"set", float_set, METH_O, "Set the number."},
    {"add", float_add, METH_O, "Add to the number."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef float_getset[] = {
    {"value", float_value, NULL, "The number, in this process.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot float_slots[] = {
    {Py_tp_doc, "A float in a segment that is set or added to."},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_tp_traverse, numbers_traverse},
    {Py_tp_clear, numbers_clear},
    {Py_tp_methods, float_methods},
    {Py_tp_getset, float_getset},
    {0, NULL},
};

static PyType_Spec float_spec = {
    .name = "hypertrace._speedups.Float",
    .basicsize = sizeof(Numbers),
    .itemsize = sizeof(uint64_t),
    .flags = FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = float_slots,
};

/* ---- NumberCell: a sum, and how many amounts are in it --------------------------------------- */

static PyObject *
number_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (!has_no_arguments(type, args, kwargs))
        return NULL;
    return (PyObject *)make_numbers(type, NULL, NULL, NUMBER);
}

static PyObject *
number_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Numbers *self = (Numbers *)object;
    double amount = 1;
    if (nargs > 1)
        return PyErr_SetString(PyExc_TypeError, "add() takes at most one argument"), NULL;
    if (nargs == 1) {
        int found = number_of(self, args[0], 1, &amount);
        if (found <= 0)
            return found < 0 ? NULL : Py_NewRef(Py_None);
    }
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile double *sum = (double *)(void *)self->place;
    volatile uint64_t *updates = self->place + 1;
    *sum = *sum + amount;
    *updates = *updates + 1;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
number_updates(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(*(volatile uint64_t *)(((Numbers *)self)->place + 1));
}

static PyMethodDef number_methods[] = {
    {"add", FAST(number_add), METH_FASTCALL, "Add an amount, or one."},
    RESET,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef number_getset[] = {
    {"value", float_value, NULL, "The sum, in this process.", NULL},
    {"updates", number_updates, NULL, "How many amounts were added, in this process.", NULL},
    CONVERT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot number_slots[] = {
    {Py_tp_doc, "A sum of floats that only rises."},
    {Py_tp_new, number_new},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_tp_traverse, numbers_traverse},
    {Py_tp_clear, numbers_clear},
    {Py_tp_methods, number_methods},
    {Py_tp_getset, number_getset},
    {0, NULL},
};

static PyType_Spec number_spec = {
    .name = "hypertrace._speedups.NumberCell",
    .basicsize = sizeof(Numbers),
    .itemsize = sizeof(uint64_t),
    .flags = FLAGS,
    .slots = number_slots,
};

/* ---- GaugeCell: how often it was set, two values with their times, how often that began ------- */

static PyObject *
gauge_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (!has_no_arguments(type, args, kwargs))
        return NULL;
    return (PyObject *)make_numbers(type, NULL, NULL, GAUGE);
}

/* The place of the value after so many updates; its time is behind it. */
static inline volatile double *
value_after(uint64_t *place, uint64_t updates)
{
    return (double *)(void *)(place + 1 + 2 * (updates & 1));
}

/* The value that is valid is not touched: the one before it and its time are replaced, and then the
   number of updates makes them valid. A reader that finds no more than one update begun, in the last
   cell, has read a valid one. */
static PyObject *
gauge_put(PyObject *object, PyObject *const *args, Py_ssize_t nargs, int keep)
{
    Numbers *self = (Numbers *)object;
    double value = 1;
    struct timespec now;
    if (nargs > 1 || (nargs == 0 && !keep))
        return PyErr_Format(PyExc_TypeError, "%s() takes one argument", keep ? "add" : "set");
    if (nargs == 1) {
        int found = number_of(self, args[0], 0, &value);
        if (found <= 0)
            return found < 0 ? NULL : Py_NewRef(Py_None);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile uint64_t *updates = self->place;
    uint64_t before = *updates;
    volatile double *next = value_after(self->place, before + 1);
    *(volatile uint64_t *)(self->place + 5) = before + 1;
    IN_ORDER();
    next[0] = keep && before != 0 ? *value_after(self->place, before) + value : value;
    next[1] = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    IN_ORDER();
    *updates = before + 1;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
gauge_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return gauge_put(self, args, nargs, 0);
}

static PyObject *
gauge_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return gauge_put(self, args, nargs, 1);
}

static PyObject *
gauge_read(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Numbers *self = (Numbers *)object;
    uint64_t updates;
    double value, time;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    updates = *(volatile uint64_t *)self->place;
    value = value_after(self->place, updates)[0];
    time = value_after(self->place, updates)[1];
    Py_END_CRITICAL_SECTION();
    return Py_BuildValue("(Kdd)", (unsigned long long)updates, value, time);
}

/* Other processes find no value, or the last one. */
static PyObject *
gauge_clear(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Numbers *self = (Numbers *)object;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    *(volatile uint64_t *)self->place = 0;
    IN_ORDER();
    *(volatile uint64_t *)(self->place + 5) = 0;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
gauge_value(PyObject *object, void *Py_UNUSED(closure))
{
    Numbers *self = (Numbers *)object;
    uint64_t updates;
    double value;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    updates = *(volatile uint64_t *)self->place;
    value = *value_after(self->place, updates);
    Py_END_CRITICAL_SECTION();
    return updates == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(value);
}

static PyMethodDef gauge_methods[] = {
    {"set", FAST(gauge_set), METH_FASTCALL, "Set the value."},
    {"add", FAST(gauge_add), METH_FASTCALL, "Add an amount to the value, or one."},
    {"clear", gauge_clear, METH_NOARGS, "Be without a value again."},
    {"read", gauge_read, METH_NOARGS, "How often it was set in this process, value and time."},
    RESET,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef gauge_getset[] = {
    {"value", gauge_value, NULL, "The value, in this process; None if there is none.", NULL},
    CONVERT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot gauge_slots[] = {
    {Py_tp_doc, "A value that is set or added to."},
    {Py_tp_new, gauge_new},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_tp_traverse, numbers_traverse},
    {Py_tp_clear, numbers_clear},
    {Py_tp_methods, gauge_methods},
    {Py_tp_getset, gauge_getset},
    {0, NULL},
};

static PyType_Spec gauge_spec = {
    .name = "hypertrace._speedups.GaugeCell",
    .basicsize = sizeof(Numbers),
    .itemsize = sizeof(uint64_t),
    .flags = FLAGS,
    .slots = gauge_slots,
};

/* ---- HistogramCell, SharedHistogram: a count, two sums, buckets ------------------------------- */


/* Return bounds of buckets. */
static const Bounds *
bounds_of(PyObject *values)
{
    Py_ssize_t count = PyTuple_GET_SIZE(values);
    size_t size = (size_t)count * sizeof(double);
    Bounds *made = PyMem_Malloc(sizeof(Bounds) + size), *found;
    if (made == NULL)
        return (Bounds *)PyErr_NoMemory();
    made->count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        made->values[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(values, i));
        if (made->values[i] == -1.0 && PyErr_Occurred()) {
            PyMem_Free(made);
            return NULL;
        }
    }
    Py_BEGIN_CRITICAL_SECTION(histogram_type);
    for (found = all_bounds; found != NULL; found = found->next)
        if (found->count == count && memcmp(found->values, made->values, size) == 0)
            break;
    if (found == NULL) {
        made->next = all_bounds;
        found = all_bounds = made;
        made = NULL;
    }
    Py_END_CRITICAL_SECTION();
    PyMem_Free(made);
    return found;
}

static PyObject *
make_histogram(PyTypeObject *type, PyObject *segment, uint64_t *place, PyObject *values)
{
    const Bounds *bounds = bounds_of(values);
    if (bounds == NULL)
        return NULL;
    Numbers *made = make_numbers(type, segment, place, HISTOGRAM + bounds->count + 1);
    if (made != NULL)
        made->bounds = bounds;
    return (PyObject *)made;
}

static PyObject *
histogram_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bounds", NULL};
    PyObject *values;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:HistogramCell", names, &PyTuple_Type, &values))
        return NULL;
    return make_histogram(type, NULL, NULL, values);
}

/* Return the number of bounds below a value: bisect_left(). */
static inline Py_ssize_t
bucket_of(const Bounds *bounds, double value)
{
    Py_ssize_t low = 0, high = bounds->count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (bounds->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static PyObject *
get_samples(PyObject *object, void *Py_UNUSED(closure))
{
    Numbers *self = (Numbers *)object;
    PyObject *samples;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    samples = Py_XNewRef(self->samples);
    Py_END_CRITICAL_SECTION();
    return samples == NULL ? Py_NewRef(Py_None) : samples;
}

static int
set_samples(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    Numbers *self = (Numbers *)object;
    PyObject *old, *made = value == Py_None ? NULL : value;
    if (made != NULL && !is_samples(made))
        return PyErr_Format(PyExc_TypeError, "samples must be a SampleCell, not %R", made), -1;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    old = self->samples;
    self->samples = Py_XNewRef(made);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
    return 0;
}

#define SAMPLES                                                                                     \
    {"samples", get_samples, set_samples, "A SampleCell for each value; None: there is none.", NULL}

/* Readers take the sum of the buckets as the count, also in the file of a process that was killed here:
   so the increment of a bucket records both numbers. */
static inline void
record(Numbers *self, double value)
{
    volatile uint64_t *count = self->place;
    volatile uint64_t *bucket = self->place + HISTOGRAM + bucket_of(self->bounds, value);
    volatile double *sums = (double *)(void *)(self->place + 1);
    PyObject *samples;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    uint64_t before = *count;
    sums[(before + 1) & 1] = sums[before & 1] + value;
    IN_ORDER();
    *bucket = *bucket + 1;
    IN_ORDER();
    *count = before + 1;
    samples = Py_XNewRef(self->samples);
    Py_END_CRITICAL_SECTION();
    if (samples != NULL) {
        add_sample(samples, value);
        Py_DECREF(samples);
    }
}

void
shared_histogram_record(PyObject *self, double seconds)
{
    record((Numbers *)self, seconds >= 0 && seconds <= LONGEST ? seconds : 0);
}

int
is_histogram(PyObject *object)
{
    return Py_IS_TYPE(object, histogram_type);
}

int
number_for_histogram(PyObject *self, PyObject *value, double *number)
{
    return number_of((Numbers *)self, value, 0, number);
}

void
record_in_histogram(PyObject *self, double value)
{
    record((Numbers *)self, value);
}

/* aggregations.duration() of any object: no number is 0. */
static int
seconds_of(PyObject *value, double *seconds)
{
    PyObject *number = PyFloat_CheckExact(value) ? Py_NewRef(value) : PyNumber_Float(value);
    if (number == NULL && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    *seconds = number == NULL ? 0 : PyFloat_AS_DOUBLE(number);
    Py_XDECREF(number);
    return 0;
}

static PyObject *
duration_add(PyObject *self, PyObject *value)
{
    double seconds;
    if (seconds_of(value, &seconds) < 0)
        return NULL;
    shared_histogram_record(self, seconds);
    Py_RETURN_NONE;
}

static PyObject *
histogram_add(PyObject *self, PyObject *value)
{
    double number;
    int found = number_of((Numbers *)self, value, 0, &number);
    if (found < 0)
        return NULL;
    if (found)
        record((Numbers *)self, number);
    Py_RETURN_NONE;
}

static PyObject *
tuple_of(const uint64_t *numbers, Py_ssize_t count)
{
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);
        if (number == NULL)
            Py_CLEAR(made);
        else
            PyTuple_SET_ITEM(made, i, number);
    }
    return made;
}

static PyObject *
histogram_value(PyObject *object, void *Py_UNUSED(closure))
{
    Numbers *self = (Numbers *)object;
    Py_ssize_t count = self->bounds->count + 1;
    double sum;
    uint64_t *copied = PyMem_New(uint64_t, count);
    if (copied == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_CRITICAL_SECTION(owner(self)); /* nothing is allocated here: the numbers agree */
    memcpy(copied, self->place + HISTOGRAM, (size_t)count * sizeof(uint64_t));
    sum = ((double *)(void *)(self->place + 1))[*self->place & 1];
    Py_END_CRITICAL_SECTION();
    PyObject *counts = tuple_of(copied, count);
    PyMem_Free(copied);
    return counts == NULL ? NULL : Py_BuildValue("(Nd)", counts, sum);
}

static Py_ssize_t
histogram_length(PyObject *Py_UNUSED(self))
{
    return 0;
}

static PyMethodDef histogram_methods[] = {
    {"add", histogram_add, METH_O, "Add a value."},
    RESET,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef duration_methods[] = {
    {"add", duration_add, METH_O, "Add a duration in seconds."},
    {"append", duration_add, METH_O, "The same: a span's end appends to it as to a list."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef histogram_getset[] = {
    {"value", histogram_value, NULL, "Counts of the buckets and sum, in this process.", NULL},
    SAMPLES,
    CONVERT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef duration_getset[] = {
    {"value", histogram_value, NULL, "Counts of the buckets and sum, in this process.", NULL},
    SAMPLES,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot histogram_slots[] = {
    {Py_tp_doc, "Values in buckets."},
    {Py_tp_new, histogram_new},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_tp_traverse, numbers_traverse},
    {Py_tp_clear, numbers_clear},
    {Py_tp_methods, histogram_methods},
    {Py_tp_getset, histogram_getset},
    {0, NULL},
};

static PyType_Slot duration_slots[] = {
    {Py_tp_doc, "Durations in buckets, in a segment. Its length is 0: none waits to be folded."},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_tp_traverse, numbers_traverse},
    {Py_tp_clear, numbers_clear},
    {Py_tp_methods, duration_methods},
    {Py_tp_getset, duration_getset},
    {Py_sq_length, histogram_length},
    {0, NULL},
};

static PyType_Spec histogram_spec = {
    .name = "hypertrace._speedups.HistogramCell",
    .basicsize = sizeof(Numbers),
    .itemsize = sizeof(uint64_t),
    .flags = FLAGS,
    .slots = histogram_slots,
};

static PyType_Spec duration_spec = {
    .name = "hypertrace._speedups.SharedHistogram",
    .basicsize = sizeof(Numbers),
    .itemsize = sizeof(uint64_t),
    .flags = FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = duration_slots,
};

/* ---- In a segment ---------------------------------------------------------------------------- */

/* The types of the kinds of cells, and how many cells each has, without buckets. */
static const struct {
    PyTypeObject **type;
    Py_ssize_t size;
} kinds[] = {
    [FLOAT_CELL] = {&float_type, 1},
    [NUMBER_CELL] = {&number_type, NUMBER},
    [GAUGE_CELL] = {&gauge_type, GAUGE},
    [HISTOGRAM_CELL] = {&histogram_type, HISTOGRAM + 1},
    [DURATIONS_CELL] = {&shared_histogram_type, HISTOGRAM + 1},
};

Py_ssize_t
size_of_cell(CellKind kind, PyObject *bounds)
{
    return kinds[kind].size + (bounds == NULL ? 0 : PyTuple_GET_SIZE(bounds));
}

PyObject *
make_cell(CellKind kind, PyObject *segment, uint64_t *place, PyObject *bounds)
{
    PyTypeObject *type = *kinds[kind].type;
    if (bounds != NULL)
        return make_histogram(type, segment, place, bounds);
    return (PyObject *)make_numbers(type, segment, place, 0);
}

int
add_cells(PyObject *module)
{
    return add_type(module, &float_spec, &float_type) < 0 ||
                   add_type(module, &number_spec, &number_type) < 0 ||
                   add_type(module, &gauge_spec, &gauge_type) < 0 ||
                   add_type(module, &histogram_spec, &histogram_type) < 0 ||
                   add_type(module, &duration_spec, &shared_histogram_type) < 0
               ? -1
               : 0;
}
