/* Samples: values as they came, of which a bounded number is kept at random.

   The Python class in hypertrace.sample_cells is the specification. Adding a value calls no Python and
   makes no object, so it is one step for threads, signals and finalizers. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_segments.h"

#define MOST_ROOM ((Py_ssize_t)1 << 24)

enum { FIRST_SIZE = 8 };

typedef struct {
    PyObject_HEAD
    double *values;
    Py_ssize_t held, size; /* how many values there are, and how many there is memory for */
    Py_ssize_t room;       /* how many are kept at the most */
    uint64_t seen;         /* how many were added */
    uint64_t state;        /* of the generator of random numbers */
} Samples;

static PyTypeObject *samples_type;

static PyObject *
samples_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"room", NULL};
    Py_ssize_t room;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:SampleCell", names, &room))
        return NULL;
    if (room < 1 || room > MOST_ROOM)
        return PyErr_Format(PyExc_ValueError, "no samples have room for %zd values", room);
    Samples *made = (Samples *)type->tp_alloc(type, 0);
    if (made != NULL) {
        made->room = room;
        made->state = (uint64_t)(uintptr_t)made;
    }
    return (PyObject *)made;
}

static void
samples_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyMem_Free(((Samples *)object)->values);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Return a random number below a limit: SplitMix64. That of the application stays as it is. */
static inline uint64_t
random_below(Samples *self, uint64_t limit)
{
    uint64_t mixed = self->state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    mixed ^= mixed >> 31;
    return (uint64_t)((double)(mixed >> 11) / 9007199254740992.0 * (double)limit);
}

/* Whether there is memory for one more value. Without it, those that are held stand for it. */
static inline int
has_memory(Samples *self)
{
    if (self->held < self->size)
        return 1;
    Py_ssize_t size = self->size == 0 ? FIRST_SIZE : 2 * self->size;
    size = Py_MIN(size, self->room);
    double *values = PyMem_Realloc(self->values, (size_t)size * sizeof(double));
    if (values == NULL)
        return 0;
    self->values = values;
    self->size = size;
    return 1;
}

/* A reservoir: each value that was seen is held with the same chance. */
static inline void
add(Samples *self, double value)
{
    self->seen++;
    if (self->held < self->room && has_memory(self))
        self->values[self->held++] = value;
    else {
        uint64_t at = random_below(self, self->seen);
        if (at < (uint64_t)self->held)
            self->values[at] = value;
    }
}

void
add_sample(PyObject *samples, double value)
{
    Py_BEGIN_CRITICAL_SECTION(samples);
    add((Samples *)samples, value);
    Py_END_CRITICAL_SECTION();
}

int
is_samples(PyObject *object)
{
    return Py_IS_TYPE(object, samples_type);
}

static PyObject *
samples_add(PyObject *self, PyObject *value)
{
    if (!PyFloat_CheckExact(value))
        return PyErr_Format(PyExc_TypeError, "a sample is a float, not %R", value);
    add_sample(self, PyFloat_AS_DOUBLE(value));
    Py_RETURN_NONE;
}

static PyObject *
samples_extend(PyObject *self, PyObject *values)
{
    if (!PyList_CheckExact(values))
        return PyErr_Format(PyExc_TypeError, "samples are a list, not %R", values);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(values); i++) {
        PyObject *value = PyList_GET_ITEM(values, i);
        if (PyFloat_CheckExact(value))
            add_sample(self, PyFloat_AS_DOUBLE(value));
    }
    Py_RETURN_NONE;
}

static PyObject *
samples_take(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Samples *self = (Samples *)object;
    uint64_t seen;
    Py_ssize_t held;
    double *values;
    /* A finalizer may run as soon as a list is made, and add values: to others then. */
    Py_BEGIN_CRITICAL_SECTION(object);
    seen = self->seen;
    held = self->held;
    values = self->values;
    self->seen = 0;
    self->held = self->size = 0;
    self->values = NULL;
    Py_END_CRITICAL_SECTION();
    PyObject *list = PyList_New(held);
    for (Py_ssize_t i = 0; list != NULL && i < held; i++) {
        PyObject *value = PyFloat_FromDouble(values[i]);
        if (value == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, value);
    }
    PyMem_Free(values);
    return list == NULL ? NULL : Py_BuildValue("(KN)", (unsigned long long)seen, list);
}

static PyObject *
samples_room(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(((Samples *)object)->room);
}

static PyMethodDef samples_methods[] = {
    {"add", samples_add, METH_O, "Add a value."},
    {"extend", samples_extend, METH_O, "Add those values of a list that are floats."},
    {"take", samples_take, METH_NOARGS, "Return how many values were added, and those held; be empty."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef samples_getset[] = {
    {"room", samples_room, NULL, "How many values are held at the most.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot samples_slots[] = {
    {Py_tp_doc, "A bounded number of values, at random of all that were added."},
    {Py_tp_new, samples_new},
    {Py_tp_dealloc, samples_dealloc},
    {Py_tp_methods, samples_methods},
    {Py_tp_getset, samples_getset},
    {0, NULL},
};

static PyType_Spec samples_spec = {
    .name = "hypertrace._speedups.SampleCell",
    .basicsize = sizeof(Samples),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = samples_slots,
};

int
add_samples(PyObject *module)
{
    return add_type(module, &samples_spec, &samples_type);
}
