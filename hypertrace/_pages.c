/* Pages: counts of buckets that belong together, in memory of their own or in a segment.

   Python code of the same name in hypertrace.page_cells is the specification. Counting calls no
   Python, so it is one step for threads, signals and finalizers. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include "_segments.h"

#define IN_ORDER() __atomic_thread_fence(__ATOMIC_RELEASE)

typedef struct {
    PyObject_VAR_HEAD     /* its size is the number of cells in `own` */
    PyObject *segment;    /* holds the place; NULL: `own` is the place */
    Py_ssize_t size;      /* counts of a slot */
    Py_ssize_t slots;     /* 0: there are counts alone */
    uint64_t *place;
    uint64_t own[];
} Page;

#define LARGEST_PAGE 65536

static PyTypeObject *page_type;

Py_ssize_t
size_of_page(Py_ssize_t size, Py_ssize_t slots)
{
    return slots == 0 ? size : slots * (size + 1);
}

PyObject *
make_page(PyObject *segment, uint64_t *place, Py_ssize_t size, Py_ssize_t slots)
{
    Py_ssize_t own = segment == NULL ? size_of_page(size, slots) : 0;
    Page *made = (Page *)page_type->tp_alloc(page_type, own);
    if (made != NULL) {
        made->segment = Py_XNewRef(segment);
        made->size = size;
        made->slots = slots;
        made->place = segment == NULL ? made->own : place;
    }
    return (PyObject *)made;
}

int
are_page_sizes(Py_ssize_t size, Py_ssize_t slots)
{
    if (size > 0 && size <= LARGEST_PAGE && slots >= 0 && slots <= LARGEST_PAGE)
        return 1;
    PyErr_Format(PyExc_ValueError, "no page has %zd counts in %zd slots", size, slots);
    return 0;
}

static PyObject *
page_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", "slots", NULL};
    Py_ssize_t size, slots = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|n:PageCell", names, &size, &slots) ||
        !are_page_sizes(size, slots))
        return NULL;
    return make_page(NULL, NULL, size, slots);
}

static void
page_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((Page *)object)->segment);
    type->tp_free(object);
    Py_DECREF(type);
}

/* What protects the cells: the segment, or the object itself. */
static inline PyObject *
owner(Page *self)
{
    return self->segment == NULL ? (PyObject *)self : self->segment;
}

/* Convert arguments to numbers, the first of which are indexes below some limits. */
static int
numbers_of(PyObject *const *args, Py_ssize_t nargs, Py_ssize_t wanted, int64_t *numbers,
           const Py_ssize_t *limits)
{
    if (nargs != wanted)
        return PyErr_Format(PyExc_TypeError, "%zd arguments are needed", wanted), -1;
    for (Py_ssize_t i = 0; i < wanted; i++) {
        numbers[i] = PyLong_AsLongLong(args[i]);
        if (numbers[i] == -1 && PyErr_Occurred())
            return -1;
        if (limits[i] >= 0 && (numbers[i] < 0 || numbers[i] >= limits[i]))
            return PyErr_Format(PyExc_IndexError, "%lld is not below %zd", (long long)numbers[i],
                                limits[i]), -1;
    }
    return 0;
}

static PyObject *
page_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Page *self = (Page *)object;
    int64_t place;
    Py_ssize_t limit = self->slots == 0 ? self->size : 0;
    if (numbers_of(args, nargs, 1, &place, &limit) < 0)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile uint64_t *count = self->place + place;
    *count = *count + 1;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

/* A slot whose stamp is 0 is empty to every reader. So its counts are never those of another time, also
   in the file of a process that was killed in between. */
static PyObject *
page_add_in_slot(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Page *self = (Page *)object;
    int64_t numbers[3];
    const Py_ssize_t limits[3] = {self->size, self->slots, -1};
    if (numbers_of(args, nargs, 3, numbers, limits) < 0)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile uint64_t *stamp = self->place + numbers[1] * (self->size + 1);
    if (*stamp != (uint64_t)numbers[2]) {
        *stamp = 0;
        IN_ORDER();
        memset((uint64_t *)stamp + 1, 0, (size_t)self->size * sizeof(uint64_t));
        IN_ORDER();
        *stamp = (uint64_t)numbers[2];
        IN_ORDER();
    }
    volatile uint64_t *count = stamp + 1 + numbers[0];
    *count = *count + 1;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
page_data(PyObject *object, void *Py_UNUSED(closure))
{
    Page *self = (Page *)object;
    Py_ssize_t bytes = size_of_page(self->size, self->slots) * (Py_ssize_t)sizeof(uint64_t);
    PyObject *data = PyBytes_FromStringAndSize(NULL, bytes);
    if (data == NULL)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    memcpy(PyBytes_AS_STRING(data), self->place, (size_t)bytes);
    Py_END_CRITICAL_SECTION();
    return data;
}

static PyObject *
page_reset(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    memset(((Page *)object)->own, 0, (size_t)Py_SIZE(object) * sizeof(uint64_t));
    Py_RETURN_NONE;
}

#define FAST(function) (PyCFunction)(void (*)(void))function

static PyMethodDef page_methods[] = {
    {"add", FAST(page_add), METH_FASTCALL, "Add one to the count at a place, without slots."},
    {"add_in_slot", FAST(page_add_in_slot), METH_FASTCALL,
     "Add one to the count at a place of a slot, which is emptied if it has another stamp."},
    {"reset", page_reset, METH_NOARGS, "Start again, if these cells are in memory."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef page_getset[] = {
    {"data", page_data, NULL, "All cells, in this process.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot page_slots[] = {
    {Py_tp_doc, "Counts of buckets that belong together."},
    {Py_tp_new, page_new},
    {Py_tp_dealloc, page_dealloc},
    {Py_tp_methods, page_methods},
    {Py_tp_getset, page_getset},
    {0, NULL},
};

static PyType_Spec page_spec = {
    .name = "hypertrace._speedups.PageCell",
    .basicsize = sizeof(Page),
    .itemsize = sizeof(uint64_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = page_slots,
};

int
add_pages(PyObject *module)
{
    return add_type(module, &page_spec, &page_type);
}
