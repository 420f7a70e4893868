/* Pauses: how long collections of garbage take, for `gc.callbacks`.

   A function in Python would not do: what a signal handler raises in it is lost to the application.
   A collection starts and stops in one thread, and no other begins meanwhile. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_segments.h"

#if HAVE_SEGMENTS

#include <time.h>

typedef struct {
    PyObject_HEAD
    PyObject *adders; /* by the generation a tuple of what is called with seconds; or NULL */
    double began;     /* below 0 while there is no collection */
} PauseTimer;

static PyTypeObject *timer_type;

static double
seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Whether there are tuples by generation, all in one tuple. */
static int
are_adders(PyObject *adders)
{
    if (!PyTuple_CheckExact(adders))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(adders); i++)
        if (!PyTuple_CheckExact(PyTuple_GET_ITEM(adders, i)))
            return 0;
    return 1;
}

static PyObject *
timer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":PauseTimer", names))
        return NULL;
    PauseTimer *made = (PauseTimer *)type->tp_alloc(type, 0);
    if (made != NULL)
        made->began = -1;
    return (PyObject *)made;
}

static int
timer_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((PauseTimer *)object)->adders);
    return 0;
}

static int
timer_clear(PyObject *object)
{
    Py_CLEAR(((PauseTimer *)object)->adders);
    return 0;
}

static void
timer_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    timer_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Return a strong reference, since an adder may replace the adders; NULL if there are none. */
static PyObject *
held_adders(PyObject *object)
{
    PyObject *held;
    Py_BEGIN_CRITICAL_SECTION(object);
    held = Py_XNewRef(((PauseTimer *)object)->adders);
    Py_END_CRITICAL_SECTION();
    return held;
}

static void
report(PyObject *object, long generation, double seconds)
{
    PyObject *adders = held_adders(object);
    if (adders == NULL)
        return;
    if (generation >= 0 && generation < PyTuple_GET_SIZE(adders)) {
        PyObject *own = PyTuple_GET_ITEM(adders, generation);
        PyObject *number = PyFloat_FromDouble(seconds);
        for (Py_ssize_t i = 0; number != NULL && i < PyTuple_GET_SIZE(own); i++) {
            PyObject *result = PyObject_CallOneArg(PyTuple_GET_ITEM(own, i), number);
            if (result == NULL)
                PyErr_Clear();
            Py_XDECREF(result);
        }
        Py_XDECREF(number);
    }
    Py_DECREF(adders);
}

static PyObject *
timer_time(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    PauseTimer *self = (PauseTimer *)object;
    if (nargs == 2 && PyUnicode_Check(args[0]) && PyDict_Check(args[1])) {
        if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0)
            self->began = seconds_now();
        else if (self->began >= 0) {
            double seconds = seconds_now() - self->began;
            self->began = -1;
            PyObject *generation = PyDict_GetItemString(args[1], "generation");
            report(object, generation == NULL ? -1 : PyLong_AsLong(generation), seconds);
        }
    }
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyObject *
timer_get_adders(PyObject *object, void *Py_UNUSED(closure))
{
    PyObject *held = held_adders(object);
    return held == NULL ? PyTuple_New(0) : held;
}

static int
timer_set_adders(PyObject *object, PyObject *adders, void *Py_UNUSED(closure))
{
    if (adders == NULL || !are_adders(adders)) {
        PyErr_SetString(PyExc_TypeError, "adders are a tuple of tuples");
        return -1;
    }
    PyObject *before;
    Py_BEGIN_CRITICAL_SECTION(object);
    before = ((PauseTimer *)object)->adders;
    ((PauseTimer *)object)->adders = Py_NewRef(adders);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
    return 0;
}

static PyMethodDef timer_methods[] = {
    {"time", (PyCFunction)(void (*)(void))timer_time, METH_FASTCALL,
     "Take the time at the start and the stop of a collection."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_getset[] = {
    {"adders", timer_get_adders, timer_set_adders,
     "By the generation, what is called with the seconds; it must run in C.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "Times collections of garbage."},
    {Py_tp_new, timer_new},
    {Py_tp_dealloc, timer_dealloc},
    {Py_tp_traverse, timer_traverse},
    {Py_tp_clear, timer_clear},
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

static PyType_Spec timer_spec = {
    .name = "hypertrace._speedups.PauseTimer",
    .basicsize = sizeof(PauseTimer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timer_slots,
};

int
add_pauses(PyObject *module)
{
    return add_type(module, &timer_spec, &timer_type);
}

#endif
