/* Hot path of hypertrace in C.

   The Python modules are the specification: the functions here do the same as those of the same
   names there. Work done once per call site, and all unusual cases, stay in Python.

   There are three types, Cell, which replaces cells.CountCell, CellGroup, which replaces
   cells.PythonCellGroup, and Table, which replaces the dict of a tracer's recorders, and methods
   that speed_up() puts into the Python classes. Recorders of known kinds are not even called.
   _operations.c has the methods of operations, _cells.c cells of numbers, _buckets.c exponential buckets, _segments.c those cells that other
   processes read, _signals.c a handler of SIGTERM, _pauses.c what times collections of garbage.

   The key of a call site is the address of its instruction, as in Python; keys of recorders with
   props are negative. Only the public C API is used, except in _frames.h and, on CPython 3.11, in
   call_address().

   A finalizer may run at any allocation up to CPython 3.11, and at any release and call later. It
   may replace the trace function, which empties tables, and change any slot. So each reference that
   is used after an allocation, a release or a call must be strong. The caller of a function holds
   strong references to its arguments. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <time.h>
#include "_open_calls.h"
#include "_speedups.h"

/* ---- State of the module -------------------------------------------------------------------- */

typedef struct {
    PyTypeObject *cell_type, *group_type, *table_type;
    /* Objects of the Python modules: */
    PyTypeObject *tracer_type, *disabled_type, *span_type, *binding_type;
    PyObject *dispatch;      /* namespace of _dispatch, for `target` */
    PyObject *sequences;     /* class name -> iterator of object ids */
    PyObject *not_bound;     /* the table of tracers that have not traced */
    PyObject *make_tracer;   /* Tracer.__new__ in Python */
    PyObject *swallow;
    PyObject *current_span;  /* the context variable */
    PyObject *no_span;       /* the span that does nothing */
    PyObject *ended;         /* the token of a span that ended, but may still be current */
    PyObject *collections, *collecting; /* of _span: phases of the collector */
    PyObject *span_module;   /* namespace of _span, for `clock` */
    PyObject *native_clock;  /* time.perf_counter */
    PyObject *record_props;  /* PropsRecorder.record */
    PyObject *enter_in_python, *exit_in_python; /* Span.__enter__ and __exit__ in Python */
    PyObject *active_suppressions, *drop_if_suppressed; /* of _guard: a list; a function */
    PyObject *buffered;      /* _span.MAX_BUFFERED, and its value: */
    Py_ssize_t max_buffered;
    PyObject *str_target, *str_clock, *str_deliver, *str_open_span;
    PyObject *str_end, *str_fold_and_count_edge, *str_nearest_open;
    /* Offsets of slots. */
    Py_ssize_t tracer_class, tracer_ctx, tracer_parent, tracer_props, tracer_table;
    Py_ssize_t tracer_class_name, tracer_object_id;
    Py_ssize_t span_began, span_binding, span_details, span_outer, span_props, span_tracer, span_token;
    Py_ssize_t binding_start, binding_durations, binding_stepped_durations, binding_edges;
    Py_ssize_t recorder_names, recorder_known;
} State;

/* Global, since methods of Python classes cannot reach the state of a module; a second interpreter of
   the process uses the Python code. */
static State state;

static inline int
same_text(PyObject *one, PyObject *other)
{
    return one == other || PyUnicode_Compare(one, other) == 0;
}

/* Call swallow(error, culprit) if the exception is an `Exception`. Return 0 if it was swallowed. */
int
swallow(PyObject *culprit)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    PyObject *result = PyObject_CallFunctionObjArgs(state.swallow, error, culprit, NULL);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---- Cell ----------------------------------------------------------------------------------- */

static PyObject *
cell_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Cell *self = (Cell *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->place = &self->of.count;
    return (PyObject *)self;
}

static void
cell_dealloc(PyObject *object)
{
    Cell *self = (Cell *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->place != &self->of.count)
        Py_DECREF(self->of.segment);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
cell_increment(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ATOMIC_INCREMENT(((Cell *)self)->place);
    Py_RETURN_NONE;
}

static PyObject *
cell_reset(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ATOMIC_STORE(((Cell *)self)->place, 0);
    Py_RETURN_NONE;
}

static PyObject *
cell_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0))
        return PyErr_SetString(PyExc_TypeError, "a cell takes no arguments"), NULL;
    return cell_increment(self, NULL);
}

static PyObject *
cell_value(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(ATOMIC_LOAD(((Cell *)self)->place));
}

static PyMethodDef cell_methods[] = {
    {"increment", cell_increment, METH_NOARGS, "Add one."},
    {"reset", cell_reset, METH_NOARGS, "Start again at 0."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef cell_getset[] = {
    {"value", cell_value, NULL, "Number of calls of `increment` since the last reset.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot cell_slots[] = {
    {Py_tp_doc, "A count that starts at 0 and goes up by one."},
    {Py_tp_new, cell_new},
    {Py_tp_dealloc, cell_dealloc},
    {Py_tp_call, cell_call},
    {Py_tp_methods, cell_methods},
    {Py_tp_getset, cell_getset},
    {0, NULL},
};

static PyType_Spec cell_spec = {
    .name = "hypertrace._speedups.Cell",
    .basicsize = sizeof(Cell),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cell_slots,
};

/* ---- CellGroup ------------------------------------------------------------------------------ */

typedef struct {
    PyObject *durations; /* a list, a shared histogram, or a function in C */
    double times, per; /* what a duration is multiplied with, and then divided by */
} Scaled;

/* Immutable: each reference lasts as long as the group. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t cell_count, scaled_count;
    Cell **cells;
    Scaled *scaled;
} CellGroup;

static inline void
group_increment_all(CellGroup *self)
{
    for (Py_ssize_t i = 0; i < self->cell_count; i++)
        ATOMIC_INCREMENT(self->cells[i]->place);
}

static PyObject *
group_increment(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    group_increment_all((CellGroup *)self);
    Py_RETURN_NONE;
}

static inline int
is_shared_histogram(PyObject *object)
{
    return object != NULL && Py_IS_TYPE(object, shared_histogram_type);
}

/* Add a duration to a list or a shared histogram, or call a function in C. Return how many wait to be
   folded. */
static inline Py_ssize_t
append_one(PyObject *durations, PyObject *duration)
{
    if (is_shared_histogram(durations)) {
        shared_histogram_record(durations, PyFloat_AS_DOUBLE(duration));
        return 0;
    }
    if (PyCFunction_CheckExact(durations)) {
        PyObject *result = PyObject_CallOneArg(durations, duration);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    return PyList_Append(durations, duration) < 0 ? -1 : PyList_GET_SIZE(durations);
}

/* Add a duration to all, and one to each cell. Return how many wait in the longest list. No Python
   code runs in here, and nothing is allocated that the garbage collector tracks. */
static Py_ssize_t
group_record(CellGroup *self, PyObject *duration)
{
    Py_ssize_t longest = 0;
    for (Py_ssize_t i = 0; i < self->scaled_count; i++) {
        double times = self->scaled[i].times, per = self->scaled[i].per;
        PyObject *value = times == 1 && per == 1
                              ? Py_NewRef(duration)
                              : PyFloat_FromDouble(PyFloat_AS_DOUBLE(duration) * times / per);
        Py_ssize_t waiting = value == NULL ? -1 : append_one(self->scaled[i].durations, value);
        Py_XDECREF(value);
        if (waiting < 0)
            return -1;
        longest = Py_MAX(longest, waiting);
    }
    group_increment_all(self);
    return longest;
}

static PyObject *
group_append(PyObject *self, PyObject *duration)
{
    if (!PyFloat_CheckExact(duration))
        return PyErr_Format(PyExc_TypeError, "a duration is a float, not %R", duration);
    return group_record((CellGroup *)self, duration) < 0 ? NULL : Py_NewRef(Py_None);
}

static Py_ssize_t
group_length(PyObject *object)
{
    CellGroup *self = (CellGroup *)object;
    Py_ssize_t longest = 0;
    for (Py_ssize_t i = 0; i < self->scaled_count; i++)
        if (PyList_CheckExact(self->scaled[i].durations))
            longest = Py_MAX(longest, PyList_GET_SIZE(self->scaled[i].durations));
    return longest;
}

static PyObject *
group_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0))
        return PyErr_SetString(PyExc_TypeError, "a group takes no arguments"), NULL;
    return group_increment(self, NULL);
}

/* Take cells. Return -1 with an exception if one is of another type. */
static int
group_take_cells(CellGroup *self, PyObject *cells)
{
    if ((self->cells = PyMem_New(Cell *, PyTuple_GET_SIZE(cells) + 1)) == NULL)
        return PyErr_NoMemory(), -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(cells); i++) {
        PyObject *cell = PyTuple_GET_ITEM(cells, i);
        if (!Py_IS_TYPE(cell, state.cell_type))
            return PyErr_Format(PyExc_TypeError, "a group takes cells, not %R", cell), -1;
        self->cells[i] = (Cell *)Py_NewRef(cell);
        self->cell_count = i + 1;
    }
    return 0;
}

/* Take triples of what durations are added to, and what they are multiplied with and divided by. */
static int
group_take_scaled(CellGroup *self, PyObject *triples)
{
    if ((self->scaled = PyMem_New(Scaled, PyTuple_GET_SIZE(triples) + 1)) == NULL)
        return PyErr_NoMemory(), -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(triples); i++) {
        PyObject *durations, *triple = PyTuple_GET_ITEM(triples, i);
        double times, per;
        if (!PyTuple_Check(triple) || !PyArg_ParseTuple(triple, "Odd", &durations, &times, &per))
            return PyErr_Format(PyExc_TypeError, "a group takes triples, not %R", triple), -1;
        if (!PyList_CheckExact(durations) && !is_shared_histogram(durations) &&
            !PyCFunction_CheckExact(durations))
            return PyErr_Format(PyExc_TypeError, "a group adds to lists, not %R", durations), -1;
        self->scaled[i] = (Scaled){Py_NewRef(durations), times, per};
        self->scaled_count = i + 1;
    }
    return 0;
}

static PyObject *
group_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *cells, *triples = NULL;
    if (!PyArg_ParseTuple(args, "O!|O!", &PyTuple_Type, &cells, &PyTuple_Type, &triples))
        return NULL;
    CellGroup *self = (CellGroup *)type->tp_alloc(type, 0);
    if (self != NULL && (group_take_cells(self, cells) < 0 ||
                         (triples != NULL && group_take_scaled(self, triples) < 0)))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
group_dealloc(PyObject *object)
{
    CellGroup *self = (CellGroup *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t i = 0; i < self->cell_count; i++)
        Py_DECREF(self->cells[i]);
    for (Py_ssize_t i = 0; i < self->scaled_count; i++)
        Py_DECREF(self->scaled[i].durations);
    PyMem_Free(self->cells);
    PyMem_Free(self->scaled);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef group_methods[] = {
    {"increment", group_increment, METH_NOARGS, "Add one to each cell."},
    {"append", group_append, METH_O, "Add one to each cell, and a duration where durations go."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot group_slots[] = {
    {Py_tp_doc, "Cells, and lists of durations, that are counted in together."},
    {Py_tp_new, group_new},
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_call, group_call},
    {Py_tp_methods, group_methods},
    {Py_sq_length, group_length},
    {0, NULL},
};

static PyType_Spec group_spec = {
    .name = "hypertrace._speedups.CellGroup",
    .basicsize = sizeof(CellGroup),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};

/* Add one to the cells that a callable increments. Return 0 if it is any other callable. */
static inline int
count_with(PyObject *callable)
{
    PyObject *counted = callable;
    if (PyCFunction_CheckExact(callable) &&
        (PyCFunction_GET_FUNCTION(callable) == cell_increment ||
         PyCFunction_GET_FUNCTION(callable) == group_increment))
        counted = PyCFunction_GET_SELF(callable);
    if (Py_IS_TYPE(counted, state.cell_type))
        ATOMIC_INCREMENT(((Cell *)counted)->place);
    else if (Py_IS_TYPE(counted, state.group_type))
        group_increment_all((CellGroup *)counted);
    else
        return 0;
    return 1;
}

/* Call a callable without arguments; cells are incremented without a call. The caller holds a strong
   reference to the callable. */
int
run(PyObject *callable)
{
    if (count_with(callable))
        return 0;
    PyObject *result = PyObject_CallNoArgs(callable);
    Py_XDECREF(result);
    return result == NULL ? swallow(callable) : 0;
}

/* ---- PropsRecorder.record() ------------------------------------------------------------------ */

/* Return the value of a keyword argument; None if it was not given. */
static inline PyObject *
value_among(PyObject *name, PyObject *kwnames, PyObject *const *values)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++)
        if (same_text(PyTuple_GET_ITEM(kwnames, i), name))
            return values[i];
    return Py_None;
}

static PyObject *
dict_of(PyObject *kwnames, PyObject *const *values)
{
    PyObject *props = PyDict_New();
    for (Py_ssize_t i = 0; props != NULL && i < PyTuple_GET_SIZE(kwnames); i++)
        if (PyDict_SetItem(props, PyTuple_GET_ITEM(kwnames, i), values[i]) < 0)
            Py_CLEAR(props);
    return props;
}

/* Return the values of some keyword arguments; NULL, maybe with an exception, if one is no exact text:
   looking it up could run its code. */
static inline PyObject *
plain_values(PyObject *names, PyObject *kwnames, PyObject *const *kwvalues)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PyObject *values = PyTuple_New(count);
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        PyObject *value = value_among(PyTuple_GET_ITEM(names, i), kwnames, kwvalues);
        if (value == Py_None || PyUnicode_CheckExact(value))
            PyTuple_SET_ITEM(values, i, Py_NewRef(value));
        else
            Py_CLEAR(values);
    }
    return values;
}

/* Count keyword arguments whose values are known. Return 0 if they are not. */
static int
record_known(PyObject *recorder, PyObject *kwnames, PyObject *const *kwvalues)
{
    PyObject *names = get_slot(recorder, state.recorder_names);
    PyObject *known = get_slot(recorder, state.recorder_known);
    PyObject *values = NULL, *increment = NULL;
    if (names != NULL && known != NULL && PyTuple_CheckExact(names) && PyDict_CheckExact(known))
        values = plain_values(names, kwnames, kwvalues);
    if (values != NULL)
        increment = dict_find(known, values);
    int is_counted = increment != NULL && count_with(increment);
    Py_XDECREF(names);
    Py_XDECREF(known);
    Py_XDECREF(values);
    Py_XDECREF(increment);
    PyErr_Clear(); /* out of memory: the Python code raises it again */
    return is_counted;
}

/* ---- Table ---------------------------------------------------------------------------------- */

typedef struct {
    Py_ssize_t address; /* negative for recorders with props; 0: the entry is free */
    PyObject *id;       /* exact str, or NULL */
    PyObject *recorder;
} Entry;

typedef struct {
    PyObject_HEAD
    Py_ssize_t used, size; /* size is a power of two, or 0 */
    Entry *entries;
    PyObject *weakrefs;
} Table;

/* Return the entry of a key, or the free entry to use for it. There is always a free entry. */
static inline Entry *
table_entry(const Table *self, Py_ssize_t address, PyObject *id)
{
    size_t hash = (size_t)address * (size_t)0x9E3779B97F4A7C15u;
    if (id != NULL)
        hash += (size_t)PyObject_Hash(id); /* cannot fail for a str */
    for (size_t i = hash >> 24;; i++) {
        Entry *entry = &self->entries[i & (size_t)(self->size - 1)];
        if (entry->address == 0)
            return entry;
        if (entry->address != address)
            continue;
        if (entry->id == id || (entry->id != NULL && id != NULL && same_text(entry->id, id)))
            return entry;
    }
}

/* Return the recorder at a key, as a strong reference, or NULL if there is none. */
static inline PyObject *
table_find(Table *self, Py_ssize_t address, PyObject *id)
{
    PyObject *recorder = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->size != 0)
        recorder = Py_XNewRef(table_entry(self, address, id)->recorder);
    Py_END_CRITICAL_SECTION();
    return recorder;
}

static int
table_grow(Table *self)
{
    Table larger = {.size = self->size == 0 ? 4 : 2 * self->size};
    larger.entries = PyMem_Calloc((size_t)larger.size, sizeof(Entry));
    if (larger.entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->size; i++) {
        Entry *entry = &self->entries[i];
        if (entry->address != 0)
            *table_entry(&larger, entry->address, entry->id) = *entry;
    }
    PyMem_Free(self->entries);
    self->entries = larger.entries;
    self->size = larger.size;
    return 0;
}

/* Parse a key: an address, or a tuple of an id and an address. */
static int
table_key(PyObject *key, Py_ssize_t *address, PyObject **id)
{
    *id = NULL;
    if (PyTuple_CheckExact(key) && PyTuple_GET_SIZE(key) == 2) {
        *id = PyTuple_GET_ITEM(key, 0);
        key = PyTuple_GET_ITEM(key, 1);
    }
    *address = PyLong_AsSsize_t(key);
    if (*address == -1 && PyErr_Occurred())
        return -1;
    if (*address == 0 || (*id != NULL && !PyUnicode_CheckExact(*id))) {
        PyErr_SetString(PyExc_TypeError, "a key is an address, or a str and an address");
        return -1;
    }
    return 0;
}

/* Set the recorder of a key, in a critical section; the caller releases `replaced`. */
static int
table_put(Table *self, Py_ssize_t address, PyObject *id, PyObject *recorder, PyObject **replaced)
{
    if (4 * (self->used + 1) > 3 * self->size && table_grow(self) < 0)
        return -1;
    Entry *entry = table_entry(self, address, id);
    if (entry->address == 0) {
        self->used++;
        entry->address = address;
        entry->id = Py_XNewRef(id);
    }
    *replaced = entry->recorder;
    entry->recorder = Py_NewRef(recorder);
    return 0;
}

static int
table_set(PyObject *object, PyObject *key, PyObject *recorder)
{
    Py_ssize_t address;
    PyObject *id, *replaced = NULL;
    int status;
    if (recorder == NULL)
        return PyErr_BadArgument(), -1;
    if (table_key(key, &address, &id) < 0)
        return -1;
    Py_BEGIN_CRITICAL_SECTION(object);
    status = table_put((Table *)object, address, id, recorder, &replaced);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(replaced);
    return status;
}

static PyObject *
table_get(PyObject *self, PyObject *key)
{
    Py_ssize_t address;
    PyObject *id;
    if (table_key(key, &address, &id) < 0)
        return NULL;
    PyObject *recorder = table_find((Table *)self, address, id);
    return recorder == NULL ? Py_NewRef(Py_None) : recorder;
}

static int
table_clear(PyObject *object)
{
    Table *self = (Table *)object;
    Entry *entries;
    Py_ssize_t size;
    Py_BEGIN_CRITICAL_SECTION(object);
    entries = self->entries;
    size = self->size;
    self->entries = NULL;
    self->size = self->used = 0;
    Py_END_CRITICAL_SECTION();
    for (Py_ssize_t i = 0; i < size; i++) { /* may run finalizers that use the table */
        Py_XDECREF(entries[i].id);
        Py_XDECREF(entries[i].recorder);
    }
    PyMem_Free(entries);
    return 0;
}

static PyObject *
table_clear_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return table_clear(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static Py_ssize_t
table_length(PyObject *self)
{
    return ATOMIC_LOAD(&((Table *)self)->used);
}

static int
table_traverse(PyObject *object, visitproc visit, void *arg)
{
    Table *self = (Table *)object;
    Py_VISIT(Py_TYPE(object));
    for (Py_ssize_t i = 0; i < self->size; i++)
        Py_VISIT(self->entries[i].recorder);
    return 0;
}

static void
table_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (((Table *)self)->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    table_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef table_methods[] = {
    {"get", table_get, METH_O, "Return the recorder at a key, or None."},
    {"clear", table_clear_method, METH_NOARGS, "Remove all recorders."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef table_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Table, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_doc, "The recorders of tracers with equal labels, by call site."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_traverse, table_traverse},
    {Py_tp_clear, table_clear},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {Py_tp_members, table_members},
    {Py_mp_length, table_length},
    {Py_mp_ass_subscript, table_set},
    {0, NULL},
};

static PyType_Spec table_spec = {
    .name = "hypertrace._speedups.Table",
    .basicsize = sizeof(Table),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = table_slots,
};

/* ---- Tracer: trace(), span() and construction ------------------------------------------------ */

/* The address of the instruction that the calling Python code is at, or 0 if there is none.

   PyEval_GetFrame() makes a frame object, which would double the cost. */
static inline Py_ssize_t
call_address(void)
{
    Frame *frame = current_frame(PyThreadState_Get());
#if PY_VERSION_HEX < 0x030C0000
    if (frame == NULL || _PyFrame_IsIncomplete(frame))
        return 0;
    Py_ssize_t code = (Py_ssize_t)(uintptr_t)frame->f_code;
    return code + _PyInterpreterFrame_LASTI(frame) * (Py_ssize_t)sizeof(_Py_CODEUNIT);
#else
    if (frame == NULL)
        return 0;
    PyObject *code = PyUnstable_InterpreterFrame_GetCode(frame);
    Py_XDECREF(code); /* the frame holds it */
    if (code == NULL || !PyCode_Check(code)) /* where C called Python, or a thread began */
        return 0;
    return (Py_ssize_t)(uintptr_t)code + PyUnstable_InterpreterFrame_GetLasti(frame);
#endif
}

/* Get the id of a call: a str, or NULL for none. Return 0 if the Python code must handle the call. */
static inline int
simple_id(PyObject *const *args, Py_ssize_t nargs, PyObject **id)
{
    *id = NULL;
    if (nargs == 0 || (nargs == 1 && args[0] == Py_None))
        return 1;
    *id = args[0];
    return nargs == 1 && PyUnicode_CheckExact(args[0]);
}

/* Return the recorder at a key of a tracer's table, as a strong reference, or NULL. */
PyObject *
find_recorder(PyObject *tracer, Py_ssize_t address, PyObject *id)
{
    PyObject *table = get_slot(tracer, state.tracer_table), *recorder = NULL;
    if (table != NULL && Py_IS_TYPE(table, state.table_type))
        recorder = table_find((Table *)table, address, id);
    Py_XDECREF(table);
    return recorder;
}

static const char too_many[] =
    "trace() and span() take at most 2 positional arguments, an id and props (%zd given)";

/* Let the Python code deliver: tracer.method(frame, id, props, kwargs). */
static PyObject *
call_python(PyObject *tracer, PyObject *method, PyObject *const *args, Py_ssize_t nargs,
     PyObject *kwnames)
{
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed: it outlives this call */
    if (nargs > 2)
        return PyErr_Format(PyExc_TypeError, too_many, nargs);
    PyObject *props = kwnames == NULL ? PyDict_New() : dict_of(kwnames, args + nargs);
    if (props == NULL)
        return NULL;
    PyObject *result = PyObject_CallMethodObjArgs(
        tracer, method, frame == NULL ? Py_None : (PyObject *)frame,
        nargs > 0 ? args[0] : Py_None, nargs > 1 ? args[1] : Py_None, props, NULL);
    Py_DECREF(props);
    return result;
}

/* Record one call with the recorder of its call site. */
static int
record(PyObject *recorder, PyObject *kwnames, PyObject *const *kwvalues)
{
    if (kwnames == NULL)
        return run(recorder);
    if (PyMethod_Check(recorder) && PyMethod_GET_FUNCTION(recorder) == state.record_props &&
        record_known(PyMethod_GET_SELF(recorder), kwnames, kwvalues))
        return 0;
    PyObject *props = dict_of(kwnames, kwvalues);
    PyObject *result = props == NULL ? NULL : PyObject_CallOneArg(recorder, props);
    Py_XDECREF(props);
    Py_XDECREF(result);
    return result == NULL ? swallow(recorder) : 0;
}

/* Drop an event if tracing is suppressed here. Return 1 if so, 0 if not, -1 with an exception. */
int
drop_if_suppressed(void)
{
    if (PyList_GET_SIZE(state.active_suppressions) == 0)
        return 0;
    PyObject *dropped = PyObject_CallNoArgs(state.drop_if_suppressed);
    Py_XDECREF(dropped); /* a bool */
    return dropped == NULL ? swallow(state.drop_if_suppressed) : dropped == Py_True;
}

/* At the start of a cache line: elsewhere it takes up to a tenth longer, as chance places it. */
LINE_ALIGNED static PyObject *
tracer_trace(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *id, *recorder = NULL;
    int dropped = drop_if_suppressed();
    if (dropped != 0)
        return dropped < 0 ? NULL : Py_NewRef(Py_None);
    Py_ssize_t address = call_address();
    if (address != 0 && simple_id(args, nargs, &id))
        recorder = find_recorder(self, kwnames == NULL ? address : -address, id);
    if (recorder == NULL)
        return call_python(self, state.str_deliver, args, nargs, kwnames);
    int status = record(recorder, kwnames, args + nargs);
    Py_DECREF(recorder);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
disabled_trace(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), Py_ssize_t nargs,
               PyObject *Py_UNUSED(kwnames))
{
    return nargs > 2 ? PyErr_Format(PyExc_TypeError, too_many, nargs) : Py_NewRef(Py_None);
}

static PyObject *
disabled_record(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), Py_ssize_t nargs,
                PyObject *Py_UNUSED(kwnames))
{
    if (nargs < 1 || nargs > 3)
        return PyErr_Format(
            PyExc_TypeError,
            "record() takes 1 to 3 positional arguments, a duration, an id and props (%zd given)",
            nargs);
    return Py_NewRef(Py_None);
}

PyObject *
new_span(PyObject *binding, PyObject *tracer)
{
    PyObject *span = state.span_type->tp_alloc(state.span_type, 0);
    if (span == NULL)
        return NULL;
    set_slot(span, state.span_binding, Py_NewRef(binding));
    set_slot(span, state.span_tracer, Py_NewRef(tracer));
    set_slot(span, state.span_props, Py_NewRef(Py_None));
    set_slot(span, state.span_details, Py_NewRef(Py_None));
    return span;
}

/* Give back an object, whose reference is taken, if it is a binding; otherwise NULL. */
static inline PyObject *
only_binding(PyObject *object)
{
    if (object != NULL && !Py_IS_TYPE(object, state.binding_type))
        Py_CLEAR(object);
    return object;
}

PyObject *
find_binding(PyObject *tracer, Py_ssize_t address, PyObject *id)
{
    return only_binding(find_recorder(tracer, address, id));
}

static PyObject *
tracer_span(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *id, *binding = NULL, *span = NULL;
    int dropped = drop_if_suppressed();
    if (dropped != 0)
        return dropped < 0 ? NULL : Py_NewRef(state.no_span);
    Py_ssize_t address = call_address();
    if (address != 0 && kwnames == NULL && simple_id(args, nargs, &id))
        binding = find_binding(self, address + 1, id);
    int found = binding != NULL;
    if (found)
        span = new_span(binding, self);
    Py_XDECREF(binding);
    return found ? span : call_python(self, state.str_open_span, args, nargs, kwnames);
}

/* The next id of a class name; NULL without an exception if it has no sequence yet. */
static PyObject *
next_id(PyObject *class_name)
{
    PyObject *sequence = dict_find(state.sequences, class_name);
    PyObject *id = sequence == NULL ? NULL : PyIter_Next(sequence);
    Py_XDECREF(sequence);
    return id;
}

/* A weak reference to an object; None if it allows none. */
static PyObject *
reference_to(PyObject *object)
{
    PyObject *reference = PyWeakref_NewRef(object, NULL);
    if (reference != NULL || !PyErr_ExceptionMatches(PyExc_TypeError))
        return reference;
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

/* Make a tracer without props and parent. Steals the references to name and id. */
static PyObject *
new_tracer(PyObject *ctx, PyObject *type, PyObject *class_name, PyObject *object_id)
{
    PyObject *self = state.tracer_type->tp_alloc(state.tracer_type, 0);
    if (self == NULL) {
        Py_DECREF(class_name);
        Py_DECREF(object_id);
        return NULL;
    }
    set_slot(self, state.tracer_class_name, class_name);
    set_slot(self, state.tracer_object_id, object_id);
    set_slot(self, state.tracer_props, Py_NewRef(Py_None));
    set_slot(self, state.tracer_parent, Py_NewRef(Py_None));
    set_slot(self, state.tracer_table, Py_NewRef(state.not_bound));
    set_slot(self, state.tracer_class, PyWeakref_NewRef(type, NULL));
    if (peek_slot(self, state.tracer_class) != NULL)
        set_slot(self, state.tracer_ctx, reference_to(ctx));
    if (peek_slot(self, state.tracer_ctx) == NULL)
        Py_CLEAR(self);
    return self;
}

/* Make Tracer(ctx) of an ordinary object; NULL without an exception if Python must make it. */
static PyObject *
plain_tracer(PyObject *ctx)
{
    if (ctx == Py_None || PyType_Check(ctx) || PyUnicode_Check(ctx) || PyModule_Check(ctx))
        return NULL;
    /* Borrowed, only for comparison. */
    PyObject *target = PyDict_GetItemWithError(state.dispatch, state.str_target);
    if (target == NULL || target == Py_None)
        return NULL;
    PyObject *type = Py_NewRef(Py_TYPE(ctx)); /* objects may change their class */
    PyObject *name = PyType_GetName((PyTypeObject *)type), *self = NULL;
    /* The name of a class made by calling type() may be of a subclass of str. */
    int is_simple = name != NULL && PyUnicode_CheckExact(name);
    PyObject *object_id = is_simple ? next_id(name) : NULL;
    if (object_id != NULL)
        self = new_tracer(ctx, type, name, object_id);
    else
        Py_XDECREF(name);
    Py_DECREF(type);
    return self;
}

static PyObject *
tracer_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 1 && kwnames == NULL) {
        PyObject *self = plain_tracer(args[0]);
        if (self != NULL || PyErr_Occurred())
            return self;
    }
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject **all = PyMem_New(PyObject *, count + 1); /* borrowed: the class and the arguments */
    if (all == NULL)
        return PyErr_NoMemory();
    all[0] = type;
    memcpy(all + 1, args, (size_t)count * sizeof(PyObject *));
    PyObject *self = PyObject_Vectorcall(state.make_tracer, all, (size_t)nargs + 1, kwnames);
    PyMem_Free(all);
    return self;
}

/* ---- Span: enter and exit -------------------------------------------------------------------- */

/* Return seconds by the clock of _span; without a Python call unless the clock was replaced. */
PyObject *
seconds(void)
{
    PyObject *clock = dict_find(state.span_module, state.str_clock);
    if (clock == NULL)
        return PyErr_SetString(PyExc_NameError, "clock"), NULL;
    int is_native = clock == state.native_clock;
    PyObject *result = is_native ? NULL : PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
    if (!is_native)
        return result;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return PyFloat_FromDouble((double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
}

int
is_collecting(void)
{
#if PY_VERSION_HEX < 0x030C0000
    PyObject *phase = NULL, *info = NULL, *own = NULL;
    for (Py_ssize_t i = 0; PyDict_Next(state.collections, &i, &phase, &info);) /* the latest */;
    Py_XINCREF(phase);
    Py_XINCREF(info);
    if (phase != NULL && PyUnicode_Check(phase) &&
        PyUnicode_CompareWithASCIIString(phase, "start") == 0)
        own = PyObject_GetAttr(state.collecting, phase);
    PyErr_Clear(); /* no collection began in this thread */
    int collecting = own != NULL && own == info;
    Py_XDECREF(phase);
    Py_XDECREF(info);
    Py_XDECREF(own);
    return collecting;
#else
    return 0; /* finalizers run between instructions */
#endif
}

/* Return the binding of a span, as a strong reference; NULL if it has none. */
static inline PyObject *
binding_of(PyObject *span)
{
    return only_binding(get_slot(span, state.span_binding));
}

int
tracks_edges(PyObject *binding)
{
    PyObject *edges = peek_slot(binding, state.binding_edges);
    return edges != NULL && edges != Py_None;
}

/* Store the start time of a span. */
static inline int
set_began(PyObject *self)
{
    PyObject *began = seconds();
    if (began == NULL && swallow(state.native_clock) == 0)
        began = PyFloat_FromDouble(Py_NAN);
    if (began == NULL)
        return -1;
    set_slot(self, state.span_began, began);
    return 0;
}

static inline int
has_ended(PyObject *span)
{
    return span != NULL && span != Py_None && PyObject_TypeCheck(span, state.span_type) &&
           peek_slot(span, state.span_token) == state.ended;
}

/* Return the current span, a new reference. If it has ended, make an enclosing open one current. */
PyObject *
current_span(PyObject *self)
{
    PyObject *current = NULL, *ended, *token = NULL;
    if (PyContextVar_Get(state.current_span, NULL, &current) < 0 || !has_ended(current))
        return current;
    ended = current;
    current = PyObject_CallMethodNoArgs(ended, state.str_nearest_open);
    Py_DECREF(ended);
    if (current != NULL)
        Py_XDECREF(token = PyContextVar_Set(state.current_span, current));
    if (token == NULL) {
        Py_CLEAR(current);
        return swallow(self) < 0 ? NULL : Py_NewRef(Py_None);
    }
    return current;
}

/* Make a span the current one if its binding counts edges; store the enclosing one. */
int
open_span(PyObject *self, PyObject *binding)
{
    if (!tracks_edges(binding) || is_collecting()) {
        set_slot(self, state.span_outer, Py_NewRef(Py_None));
        return 0;
    }
    PyObject *token = NULL, *outer = current_span(self);
    if (outer == NULL)
        return -1;
    set_slot(self, state.span_outer, outer);
    if ((token = PyContextVar_Set(state.current_span, self)) == NULL)
        return -1;
    set_slot(self, state.span_token, token);
    return 0;
}

/* Span._close(), if edges are counted; sets `outer` to the innermost enclosing open span. */
int
close_span(PyObject *self, PyObject *binding, PyObject *error, PyObject **outer)
{
    PyObject *found;
    if (!tracks_edges(binding))
        return 0;
    if (has_ended(*outer)) {
        if ((found = PyObject_CallMethodNoArgs(*outer, state.str_nearest_open)) == NULL)
            return -1;
        Py_SETREF(*outer, found);
    }
    if (PyContextVar_Get(state.current_span, NULL, &found) < 0)
        return -1;
    Py_XDECREF(found); /* only for comparison */
    PyObject *token = NULL; /* strong: a finalizer may end the span, too */
    if (found == self && (error == Py_None || !is_collecting()))
        token = get_slot(self, state.span_token);
    if (token != NULL) {
        int status = PyContextVar_Reset(state.current_span, token);
        Py_DECREF(token);
        if (status == 0) {
            set_slot(self, state.span_token, Py_NewRef(Py_None));
            set_slot(self, state.span_outer, Py_NewRef(Py_None));
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear(); /* in another context, or a second time */
    }
    set_slot(self, state.span_token, Py_NewRef(state.ended));
    set_slot(self, state.span_outer, Py_NewRef(*outer));
    return 0;
}

PyObject *
span_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *binding = binding_of(self);
    PyObject *start = binding == NULL ? NULL : get_slot(binding, state.binding_start);
    if (start == NULL) {
        Py_XDECREF(binding);
        return PyObject_CallOneArg(state.enter_in_python, self);
    }
    int failed = run(start) < 0 || set_began(self) < 0 ||
                 (open_span(self, binding) < 0 && swallow(self) < 0);
    Py_DECREF(start);
    Py_DECREF(binding);
    return failed ? NULL : Py_NewRef(self);
}

/* The duration of a span that ends now; NULL without an exception if Python is to end it, which
   did not start or has an odd clock. */
static PyObject *
duration_of(PyObject *span)
{
    PyObject *began = get_slot(span, state.span_began);
    PyObject *now = began == NULL ? NULL : seconds();
    PyObject *duration = now == NULL ? NULL : PyNumber_Subtract(now, began);
    Py_XDECREF(began);
    Py_XDECREF(now);
    if (duration != NULL && !PyFloat_CheckExact(duration))
        Py_CLEAR(duration);
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    return duration;
}

/* Add a duration to a list, a shared histogram or a group. Return how many wait there to be folded. */
Py_ssize_t
append(PyObject *durations, PyObject *duration)
{
    return Py_IS_TYPE(durations, state.group_type) ? group_record((CellGroup *)durations, duration)
                                                   : append_one(durations, duration);
}

int
takes_durations(PyObject *durations)
{
    return PyList_CheckExact(durations) || is_shared_histogram(durations) ||
           Py_IS_TYPE(durations, state.group_type);
}

/* Whether a duration can be added without a call of Python code. */
static inline int
is_plain_list(PyObject *durations, PyObject *duration)
{
    return durations != NULL && is_duration(duration) && takes_durations(durations);
}

/* Whether the end of a span only adds its duration. */
static inline int
is_plain_end(PyObject *self, PyObject *durations, PyObject *duration, PyObject *error)
{
    return error == Py_None && peek_slot(self, state.span_details) == Py_None &&
           is_plain_list(durations, duration);
}

/* Record the end of a span: add its duration, or let the Python code do more. */
static int
end_span(PyObject *self, PyObject *binding, PyObject *duration, PyObject *error, PyObject *outer)
{
    PyObject *result = NULL, *durations = get_slot(binding, state.binding_durations);
    Py_ssize_t waiting;
    if (!is_plain_end(self, durations, duration, error))
        result = PyObject_CallMethodObjArgs(self, state.str_end, duration, error, outer, NULL);
    else if ((waiting = append(durations, duration)) >= 0)
        result = outer == Py_None && waiting <= state.max_buffered
                     ? Py_NewRef(Py_None)
                     : PyObject_CallMethodOneArg(self, state.str_fold_and_count_edge, outer);
    Py_XDECREF(durations);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyObject *
span_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "__exit__() takes three arguments");
        return NULL;
    }
    PyObject *result = NULL, *duration = NULL;
    PyObject *binding = binding_of(self), *outer = get_slot(self, state.span_outer);
    if (binding != NULL && outer != NULL)
        duration = duration_of(self);
    if (duration != NULL) {
        int failed = close_span(self, binding, args[1], &outer) < 0 ||
                     end_span(self, binding, duration, args[1], outer) < 0;
        result = failed && swallow(self) < 0 ? NULL : Py_NewRef(Py_None);
    }
    else if (!PyErr_Occurred())
        result = PyObject_CallFunctionObjArgs(state.exit_in_python, self, args[0], args[1],
                                              args[2], NULL);
    Py_XDECREF(binding);
    Py_XDECREF(outer);
    Py_XDECREF(duration);
    return result;
}

/* ---- Spans of traced functions, which may have no object ------------------------------------- */

int
is_tracing_on(void)
{
    PyObject *target = dict_find(state.dispatch, state.str_target);
    int is_on = target != NULL && target != Py_None;
    Py_XDECREF(target);
    return is_on;
}

int
is_tracer(PyObject *object)
{
    return Py_IS_TYPE(object, state.tracer_type);
}

int
start_binding(PyObject *binding)
{
    PyObject *start = get_slot(binding, state.binding_start);
    int status = start == NULL ? 0 : run(start);
    Py_XDECREF(start);
    return status;
}

int
read_clock(double *result)
{
    /* Only for comparison. */
    if (PyDict_GetItemWithError(state.span_module, state.str_clock) == state.native_clock) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        *result = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
        return 0;
    }
    PyObject *now = PyErr_Occurred() ? NULL : seconds();
    *result = now == NULL ? Py_NAN : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    if (!PyErr_Occurred())
        return 0;
    *result = Py_NAN;
    return swallow(state.native_clock);
}

/* Add the duration of a span that ended well. Return how many wait there, -2 if Python has to end it. */
static Py_ssize_t
append_plain(PyObject *binding, PyObject *duration, int is_stepped)
{
    PyObject *durations = get_slot(
        binding, is_stepped ? state.binding_stepped_durations : state.binding_durations);
    Py_ssize_t waiting = is_plain_list(durations, duration) ? append(durations, duration) : -2;
    Py_XDECREF(durations);
    return waiting;
}

int
end_plain_span(PyObject *binding, PyObject *tracer, double began, double duration,
               const double *busy, PyObject *error)
{
    PyObject *span = NULL, *result = NULL, *busy_seconds = NULL;
    PyObject *seconds = PyFloat_FromDouble(duration);
    Py_ssize_t waiting = -2;
    if (seconds != NULL && error == Py_None)
        waiting = append_plain(binding, seconds, busy != NULL);
    if (waiting >= 0 && waiting <= state.max_buffered) {
        Py_DECREF(seconds);
        return 0;
    }
    if (seconds != NULL && waiting != -1)
        span = new_span(binding, tracer);
    if (span != NULL) {
        set_slot(span, state.span_outer, Py_NewRef(Py_None));
        set_slot(span, state.span_began, PyFloat_FromDouble(began));
        busy_seconds = busy == NULL ? Py_NewRef(Py_None) : PyFloat_FromDouble(*busy);
    }
    if (busy_seconds != NULL)
        result = waiting >= 0
                     ? PyObject_CallMethodOneArg(span, state.str_fold_and_count_edge, Py_None)
                     : PyObject_CallMethodObjArgs(span, state.str_end, seconds, error, Py_None,
                                                  busy_seconds, NULL);
    Py_XDECREF(seconds);
    Py_XDECREF(busy_seconds);
    Py_XDECREF(span);
    Py_XDECREF(result);
    return result == NULL ? swallow(binding) : 0;
}

/* ---- Module ---------------------------------------------------------------------------------- */

#define FAST(function) (PyCFunction)(void (*)(void))function

static struct {
    PyTypeObject **type;
    PyMethodDef method;
} replacements[] = {
    {&state.tracer_type, {"trace", FAST(tracer_trace), METH_FASTCALL | METH_KEYWORDS, NULL}},
    {&state.tracer_type, {"span", FAST(tracer_span), METH_FASTCALL | METH_KEYWORDS, NULL}},
    {&state.disabled_type, {"trace", FAST(disabled_trace), METH_FASTCALL | METH_KEYWORDS, NULL}},
    {&state.disabled_type, {"record", FAST(disabled_record), METH_FASTCALL | METH_KEYWORDS, NULL}},
    {&state.span_type, {"__enter__", span_enter, METH_NOARGS, NULL}},
    {&state.span_type, {"__exit__", FAST(span_exit), METH_FASTCALL, NULL}}};

/* Put a method into a class. */
int
replace_method(PyTypeObject *type, PyMethodDef *method)
{
    PyObject *descriptor = method->ml_flags & METH_CLASS ? PyDescr_NewClassMethod(type, method)
                                                         : PyDescr_NewMethod(type, method);
    if (descriptor == NULL)
        return -1;
    int status = PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor);
    Py_DECREF(descriptor);
    return status;
}

/* The offset of a slot in the objects of a class. */
static int
find_offset(PyObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *descriptor = PyObject_GetAttrString(type, name);
    if (descriptor != NULL && Py_IS_TYPE(descriptor, &PyMemberDescr_Type))
        *offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    else if (descriptor != NULL)
        PyErr_Format(PyExc_TypeError, "%R.%s is no slot", type, name);
    Py_XDECREF(descriptor);
    return PyErr_Occurred() ? -1 : 0;
}

int
intern_strings(const Named *strings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((*strings[i].place = PyUnicode_InternFromString(strings[i].name)) == NULL)
            return -1;
    return 0;
}

int
take_objects(PyObject *names, const Named *objects, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *found = PyMapping_GetItemString(names, objects[i].name);
        if (found == NULL)
            return -1;
        *objects[i].place = found;
    }
    return 0;
}

int
find_offsets(PyObject *names, const NamedSlot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *owner = PyMapping_GetItemString(names, slots[i].owner);
        if (owner == NULL || find_offset(owner, slots[i].name, slots[i].place) < 0)
            return -1;
        Py_DECREF(owner); /* the namespace holds it */
    }
    return 0;
}

static const Named strings[] = {
    {"target", &state.str_target},      {"clock", &state.str_clock},
    {"_deliver", &state.str_deliver},   {"_open_span", &state.str_open_span},
    {"_end", &state.str_end},           {"_fold_and_count_edge", &state.str_fold_and_count_edge},
    {"_nearest_open", &state.str_nearest_open}};

/* Objects that speed_up() takes from its namespace, and where it stores them. */
static const Named objects[] = {
    {"Tracer", (PyObject **)&state.tracer_type}, {"Span", (PyObject **)&state.span_type},
    {"_DisabledTracer", (PyObject **)&state.disabled_type},
    {"SpanBinding", (PyObject **)&state.binding_type},
    {"dispatch", &state.dispatch}, {"sequences", &state.sequences}, {"_collecting", &state.collecting},
    {"_NOT_BOUND", &state.not_bound},   {"make_tracer", &state.make_tracer},
    {"swallow", &state.swallow},        {"_current", &state.current_span}, {"ENDED", &state.ended},
    {"span_module", &state.span_module}, {"native_clock", &state.native_clock},
    {"record_props", &state.record_props},
    {"enter_in_python", &state.enter_in_python}, {"exit_in_python", &state.exit_in_python},
    {"active_suppressions", &state.active_suppressions},
    {"drop_if_suppressed", &state.drop_if_suppressed}, {"NO_SPAN", &state.no_span},
    {"MAX_BUFFERED", &state.buffered},  {"_collections", &state.collections}};

static const NamedSlot slots[] = {
    {"Tracer", "_class", &state.tracer_class},  {"Tracer", "_ctx", &state.tracer_ctx},
    {"Tracer", "_props", &state.tracer_props},  {"Tracer", "_parent_object", &state.tracer_parent},
    {"Tracer", "_table", &state.tracer_table},
    {"Tracer", "class_name", &state.tracer_class_name},
    {"Tracer", "object_id", &state.tracer_object_id},
    {"Span", "_began", &state.span_began},      {"Span", "_binding", &state.span_binding},
    {"Span", "_details", &state.span_details},  {"Span", "_outer", &state.span_outer},
    {"Span", "_props", &state.span_props},      {"Span", "_tracer", &state.span_tracer},
    {"Span", "_token", &state.span_token},
    {"SpanBinding", "start", &state.binding_start},
    {"SpanBinding", "durations", &state.binding_durations},
    {"SpanBinding", "stepped_durations", &state.binding_stepped_durations},
    {"SpanBinding", "edges", &state.binding_edges},
    {"PropsRecorder", "names", &state.recorder_names},
    {"PropsRecorder", "known", &state.recorder_known}};

/* speed_up(namespace): take the objects of the Python modules, and put the methods into the classes.

   It is called again after a reload of the Python modules. */
static PyObject *
speed_up(PyObject *Py_UNUSED(module), PyObject *names)
{
    if (take_objects(names, objects, Py_ARRAY_LENGTH(objects)) < 0 ||
        find_offsets(names, slots, Py_ARRAY_LENGTH(slots)) < 0)
        return NULL;
    state.max_buffered = PyLong_AsSsize_t(state.buffered);
    if (PyErr_Occurred())
        return NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(replacements); i++)
        if (replace_method(*replacements[i].type, &replacements[i].method) < 0)
            return NULL;
    state.tracer_type->tp_vectorcall = tracer_vectorcall;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"speed_up", speed_up, METH_O, "Put the methods of this module into the Python classes."},
    {NULL, NULL, 0, NULL},
};

int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    PyObject *made = PyType_FromModuleAndSpec(module, spec, NULL);
    if (made == NULL)
        return -1;
    Py_XSETREF(*type, (PyTypeObject *)made);
    return PyModule_AddType(module, *type);
}

static int
module_exec(PyObject *module)
{
    if (state.cell_type != NULL) {
        PyErr_SetString(PyExc_ImportError, "another interpreter of this process uses it");
        return -1;
    }
    if (intern_strings(strings, Py_ARRAY_LENGTH(strings)) < 0)
        return -1;
    if (add_type(module, &cell_spec, &state.cell_type) < 0 ||
        add_type(module, &group_spec, &state.group_type) < 0 ||
        add_type(module, &table_spec, &state.table_type) < 0 || add_cells(module) < 0 ||
        add_buckets(module) < 0 || add_samples(module) < 0 || add_operations(module) < 0 ||
        add_open_calls(module) < 0)
        return -1;
#if PY_VERSION_HEX >= 0x030C0000
    if (add_monitoring(module) < 0)
        return -1;
#endif
#if HAVE_BYTECODE
    if (add_bytecode(module) < 0 || add_hooks(module) < 0)
        return -1;
#endif
#if HAVE_SEGMENTS
    if (add_signals(module) < 0 || add_pauses(module) < 0)
        return -1;
    return add_segments(module, state.cell_type);
#else
    return 0;
#endif
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hypertrace._speedups",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&module_def);
}
