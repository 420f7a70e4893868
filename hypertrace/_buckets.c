/* Buckets: exponential ones, in pages, each in separate memory or in a segment.

   Python code of the same names in hypertrace.bucket_cells is the specification. Counting in a page
   calls no Python, so it is one step for threads, signals and finalizers. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
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

/* ---- Pages ----------------------------------------------------------------------------------- */

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

static inline void
count(Page *self, Py_ssize_t place)
{
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile uint64_t *counted = self->place + place;
    *counted = *counted + 1;
    Py_END_CRITICAL_SECTION();
}

static PyObject *
page_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Page *self = (Page *)object;
    int64_t place;
    Py_ssize_t limit = self->slots == 0 ? self->size : 0;
    if (numbers_of(args, nargs, 1, &place, &limit) < 0)
        return NULL;
    count(self, (Py_ssize_t)place);
    Py_RETURN_NONE;
}

/* A slot whose stamp is 0 is empty to every reader. So its counts are never those of another time, also
   in the file of a process that was killed in between. */
static inline void
count_in_slot(Page *self, Py_ssize_t place, Py_ssize_t slot, uint64_t stamp)
{
    Py_BEGIN_CRITICAL_SECTION(owner(self));
    volatile uint64_t *held = self->place + slot * (self->size + 1);
    if (*held != stamp) {
        *held = 0;
        IN_ORDER();
        memset((uint64_t *)held + 1, 0, (size_t)self->size * sizeof(uint64_t));
        IN_ORDER();
        *held = stamp;
        IN_ORDER();
    }
    volatile uint64_t *counted = held + 1 + place;
    *counted = *counted + 1;
    Py_END_CRITICAL_SECTION();
}

static PyObject *
page_add_in_slot(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    Page *self = (Page *)object;
    int64_t numbers[3];
    const Py_ssize_t limits[3] = {self->size, self->slots, -1};
    if (numbers_of(args, nargs, 3, numbers, limits) < 0)
        return NULL;
    count_in_slot(self, (Py_ssize_t)numbers[0], (Py_ssize_t)numbers[1], (uint64_t)numbers[2]);
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

/* ---- Buckets --------------------------------------------------------------------------------- */

#define NO_STAMP ((double)((int64_t)1 << 62))

/* A part of the window, on which the pages have a slot. */
typedef struct {
    double begin, end;
    int64_t number; /* since the epoch */
    uint64_t stamp; /* 0: nothing is counted in it */
} Slot;

typedef struct {
    PyObject_VAR_HEAD /* its size is the number of entries in `pages` */
    PyObject *total, *make, *clock, *limits_object; /* `make` and `clock` are from Python or NULL */
    const double *limits;
    Py_ssize_t divisions, octaves, size, slots;
    double width;
    Slot present;
    PyObject *pages[]; /* of all numbers, the lowest first; NULL: there is none yet */
} Buckets;

static PyTypeObject *buckets_type;

static int
buckets_traverse(PyObject *object, visitproc visit, void *arg)
{
    Buckets *self = (Buckets *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->total);
    Py_VISIT(self->make);
    Py_VISIT(self->clock);
    return 0;
}

static int
buckets_clear(PyObject *object)
{
    Buckets *self = (Buckets *)object;
    Py_CLEAR(self->make);
    Py_CLEAR(self->clock);
    return 0;
}

static void
buckets_dealloc(PyObject *object)
{
    Buckets *self = (Buckets *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    buckets_clear(object);
    Py_XDECREF(self->total);
    Py_XDECREF(self->limits_object);
    for (Py_ssize_t i = 0; i < Py_SIZE(object); i++)
        Py_XDECREF(self->pages[i]);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Return limits of buckets as an object that holds an array of doubles. */
static PyObject *
limits_of(PyObject *values)
{
    Py_ssize_t count = PyTuple_GET_SIZE(values);
    PyObject *made = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(double));
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        double value = PyFloat_AsDouble(PyTuple_GET_ITEM(values, i));
        if (value == -1.0 && PyErr_Occurred())
            Py_CLEAR(made);
        else
            memcpy(PyBytes_AS_STRING(made) + i * (Py_ssize_t)sizeof value, &value, sizeof value);
    }
    return made;
}

/* Return `a / b`, rounded down. */
static inline Py_ssize_t
floor_divided(Py_ssize_t a, Py_ssize_t b)
{
    return a / b - (a % b < 0);
}

static PyObject *
buckets_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"total", "shape", "make", "clock", NULL};
    PyObject *total, *shape, *values, *make = Py_None, *clock = Py_None;
    Py_ssize_t octaves, size, slots;
    double width;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!|OO:Buckets", names, &total, &PyTuple_Type,
                                     &shape, &make, &clock) ||
        !PyArg_ParseTuple(shape, "O!nnnd", &PyTuple_Type, &values, &octaves, &size, &slots, &width) ||
        !are_page_sizes(size, slots))
        return NULL;
    if (!is_histogram(total))
        return PyErr_SetString(PyExc_TypeError, "total must be a HistogramCell"), NULL;
    Py_ssize_t divisions = PyTuple_GET_SIZE(values);
    if (divisions < 1 || divisions > LARGEST_PAGE || octaves < 1 || octaves > 1024 ||
        !(slots == 0 || width > 0))
        return PyErr_SetString(PyExc_ValueError, "no buckets have this shape"), NULL;
    Py_ssize_t last = floor_divided(2 * octaves * divisions, size);
    Py_ssize_t first = floor_divided(-2 * octaves * divisions, size);
    PyObject *limits = limits_of(values);
    Buckets *self = limits == NULL ? NULL : (Buckets *)type->tp_alloc(type, last - first + 1);
    if (self == NULL) {
        Py_XDECREF(limits);
        return NULL;
    }
    self->total = Py_NewRef(total);
    self->make = make == Py_None ? NULL : Py_NewRef(make);
    self->clock = clock == Py_None ? NULL : Py_NewRef(clock);
    self->limits_object = limits;
    self->limits = (const double *)(const void *)PyBytes_AS_STRING(limits);
    self->divisions = divisions;
    self->octaves = octaves;
    self->size = size;
    self->slots = slots;
    self->width = width;
    return (PyObject *)self;
}

/* key_of() in Python. */
static inline Py_ssize_t
key_of(const Buckets *self, double value)
{
    int exponent;
    double fraction = frexp(fabs(value), &exponent);
    Py_ssize_t low = 0, high = self->divisions;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (self->limits[middle] < fraction)
            low = middle + 1;
        else
            high = middle;
    }
    Py_ssize_t key = low + (exponent - 1 + self->octaves) * self->divisions;
    Py_ssize_t last = 2 * self->octaves * self->divisions;
    key = value == 0 || key < 0 ? 0 : key > last ? last : key;
    return value > 0 ? key : -key;
}

static inline Py_ssize_t
first_page(const Buckets *self)
{
    return floor_divided(-2 * self->octaves * self->divisions, self->size);
}

/* Return the page with a number, which is made if there is none: a new reference. */
static PyObject *
page_of(Buckets *self, Py_ssize_t number)
{
    PyObject **entry = &self->pages[number - first_page(self)], *page;
    Py_BEGIN_CRITICAL_SECTION(self);
    page = Py_XNewRef(*entry);
    Py_END_CRITICAL_SECTION();
    if (page != NULL)
        return page;
    PyObject *made = self->make == NULL ? make_page(NULL, NULL, self->size, self->slots)
                                        : PyObject_CallFunction(self->make, "n", number);
    if (made == NULL)
        return NULL;
    if (!Py_IS_TYPE(made, page_type) || ((Page *)made)->size != self->size ||
        ((Page *)made)->slots != self->slots) {
        Py_DECREF(made);
        return PyErr_SetString(PyExc_TypeError, "make() must return a page of this shape"), NULL;
    }
    /* Of several threads that get here, all take the same. */
    Py_BEGIN_CRITICAL_SECTION(self);
    if (*entry == NULL)
        *entry = Py_NewRef(made);
    page = Py_NewRef(*entry);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(made);
    return page;
}

/* Return the seconds since the epoch. */
static int
now_of(Buckets *self, double *now)
{
    if (self->clock == NULL) {
        struct timespec found;
#ifdef _WIN32
        timespec_get(&found, TIME_UTC);
#else
        clock_gettime(CLOCK_REALTIME, &found);
#endif
        *now = (double)found.tv_sec + 1e-9 * (double)found.tv_nsec;
        return 0;
    }
    PyObject *result = PyObject_CallNoArgs(self->clock);
    *now = result == NULL ? -1.0 : PyFloat_AsDouble(result);
    Py_XDECREF(result);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static uint64_t
stamp_of(double number, double width)
{
    double stamp = number * width * 1e6;
    return stamp >= 1 && stamp < NO_STAMP ? (uint64_t)stamp : 0;
}

/* As Python's `a // b`. */
static double
floor_of(double a, double b)
{
    double rest = fmod(a, b), quotient = (a - rest) / b;
    if (rest < 0)
        quotient -= 1;
    double rounded = floor(quotient);
    return quotient - rounded > 0.5 ? rounded + 1 : rounded;
}

static int
slot_of(Buckets *self, Slot *slot)
{
    double now;
    if (now_of(self, &now) < 0)
        return -1;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!(self->present.begin <= now && now < self->present.end)) {
        double number = floor_of(now, self->width);
        if (!(fabs(number) < NO_STAMP)) /* the clock is patched */
            number = 0;
        self->present = (Slot){number * self->width, (number + 1) * self->width, (int64_t)number,
                               stamp_of(number, self->width)};
    }
    *slot = self->present;
    Py_END_CRITICAL_SECTION();
    return 0;
}

static PyObject *
buckets_add(PyObject *object, PyObject *value)
{
    Buckets *self = (Buckets *)object;
    double number;
    int found = number_for_histogram(self->total, value, &number);
    if (found <= 0)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    Py_ssize_t key = key_of(self, number), at = floor_divided(key, self->size);
    Slot slot = {.number = 0};
    PyObject *page = page_of(self, at);
    if (page == NULL)
        return NULL;
    if (self->slots > 0 && slot_of(self, &slot) < 0) {
        Py_DECREF(page);
        return NULL;
    }
    if (self->slots == 0)
        count((Page *)page, key - at * self->size);
    else if (slot.stamp != 0)
        count_in_slot((Page *)page, key - at * self->size, slot.number % self->slots, slot.stamp);
    Py_DECREF(page);
    record_in_histogram(self->total, number);
    Py_RETURN_NONE;
}

static PyObject *
buckets_pages(PyObject *object, void *Py_UNUSED(closure))
{
    Buckets *self = (Buckets *)object;
    PyObject *found = PyDict_New();
    for (Py_ssize_t i = 0; found != NULL && i < Py_SIZE(object); i++) {
        PyObject *page;
        Py_BEGIN_CRITICAL_SECTION(self);
        page = Py_XNewRef(self->pages[i]);
        Py_END_CRITICAL_SECTION();
        if (page == NULL)
            continue;
        PyObject *number = PyLong_FromSsize_t(first_page(self) + i);
        if (number == NULL || PyDict_SetItem(found, number, page) < 0)
            Py_CLEAR(found);
        Py_XDECREF(number);
        Py_DECREF(page);
    }
    return found;
}

static PyObject *
buckets_reset(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Buckets *self = (Buckets *)object;
    for (Py_ssize_t i = 0; i < Py_SIZE(object); i++)
        if (self->pages[i] != NULL)
            Py_DECREF(page_reset(self->pages[i], NULL));
    Py_RETURN_NONE;
}

static PyMethodDef buckets_methods[] = {
    {"add", buckets_add, METH_O, "Add a value."},
    {"reset", buckets_reset, METH_NOARGS, "Empty the pages in memory."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef buckets_getset[] = {
    {"pages", buckets_pages, NULL, "The pages that this process counts in, by number.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot buckets_slots[] = {
    {Py_tp_doc, "Values in exponential buckets."},
    {Py_tp_new, buckets_new},
    {Py_tp_dealloc, buckets_dealloc},
    {Py_tp_traverse, buckets_traverse},
    {Py_tp_clear, buckets_clear},
    {Py_tp_methods, buckets_methods},
    {Py_tp_getset, buckets_getset},
    {0, NULL},
};

static PyType_Spec buckets_spec = {
    .name = "hypertrace._speedups.Buckets",
    .basicsize = sizeof(Buckets),
    .itemsize = sizeof(PyObject *),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = buckets_slots,
};

int
add_buckets(PyObject *module)
{
    return add_type(module, &page_spec, &page_type) < 0 ||
                   add_type(module, &buckets_spec, &buckets_type) < 0
               ? -1
               : 0;
}
