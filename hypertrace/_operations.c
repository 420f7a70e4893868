/* Starts and ends of operations in C.

   _operations.py is the specification: the functions here do the same as those of the same names
   there, for the operations that most are. For all others they call the Python code.

   An operation is made by copying another one of its kind and class that has not started, slot by
   slot. What counts is found by the key that an integration gives at the end: the key is a tuple of
   texts, and the dict of those that are known is that of the binding of the kind. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include "_speedups.h"

static struct {
    PyTypeObject *operation_type, *kind_type, *binding_type, *bindings_type;
    PyObject *dispatch;            /* namespace of _dispatch, for `target` */
    PyObject *current_entry;       /* the context variable */
    PyObject *active_suppressions; /* of _guard: a list */
    PyObject *count_in_python, *end_in_python, *record_in_python;
    PyObject *buffered; /* _span.MAX_BUFFERED, and its value: */
    Py_ssize_t max_buffered;
    PyObject *one, *minus_one, *empty, *no_name;
    PyObject *str_target, *str_bound, *str_open, *str_is_nested, *str_fold_and_count_edge, *str_ok;
    /* Offsets of slots. */
    Py_ssize_t began, binding, outer, token;                     /* of Span */
    Py_ssize_t active, entry_name, entry_token, id, kind, running, seconds; /* of Operation */
    Py_ssize_t kind_id, kind_place, kind_template, kind_tracer;  /* of Operations */
    Py_ssize_t binding_durations, binding_edges, binding_start;  /* of SpanBinding */
    Py_ssize_t bindings_known;                                   /* of PropsBindings */
} state;

/* Return what is in a slot, and leave it empty. */
static inline PyObject *
take_slot(PyObject *object, Py_ssize_t offset, PyObject *value /* stolen */)
{
    PyObject **place = slot(object, offset), *old;
    Py_BEGIN_CRITICAL_SECTION(object);
    old = *place;
    ATOMIC_STORE(place, value);
    Py_END_CRITICAL_SECTION();
    return old;
}

/* Return what is in a slot, if it is set and not None, as a strong reference; else NULL. */
static inline PyObject *
get_some(PyObject *object, Py_ssize_t offset)
{
    PyObject *value = get_slot(object, offset);
    if (value == Py_None)
        Py_CLEAR(value);
    return value;
}

/* ---- Start ----------------------------------------------------------------------------------- */

/* Whether objects of a class consist of slots alone. */
static int
is_only_slots(PyTypeObject *type)
{
#ifdef Py_TPFLAGS_MANAGED_DICT
    if (PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
        return 0;
#endif
    return type->tp_dictoffset == 0 && type->tp_itemsize == 0;
}

/* Make an operation as the class does that is called with its kind. */
static PyObject *
make_operation(PyTypeObject *type, PyObject *kind)
{
    PyObject *template = get_slot(kind, state.kind_template);
    if (template == NULL || !Py_IS_TYPE(template, type)) {
        Py_XDECREF(template);
        template = PyObject_CallOneArg((PyObject *)type, kind);
        if (template == NULL || !is_only_slots(type))
            return template;
        set_slot(kind, state.kind_template, Py_NewRef(template));
    }
    PyObject *self = type->tp_alloc(type, 0);
    for (Py_ssize_t offset = sizeof(PyObject); self != NULL && offset < type->tp_basicsize;
         offset += sizeof(PyObject *))
        if (offset != type->tp_weaklistoffset)
            *slot(self, offset) = Py_XNewRef(*slot(template, offset));
    Py_DECREF(template);
    return self;
}

/* Call each of some functions with a number. */
static int
call_each(PyObject *functions, PyObject *number)
{
    if (!PyList_CheckExact(functions) && !PyTuple_CheckExact(functions))
        return PyErr_SetString(PyExc_TypeError, "the functions must be in a list or tuple"), -1;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(functions); i++) {
        PyObject *function = Py_NewRef(PySequence_Fast_GET_ITEM(functions, i));
        PyObject *result = PyObject_CallOneArg(function, number);
        Py_DECREF(function);
        if (result == NULL)
            return -1;
        Py_DECREF(result);
    }
    return 0;
}

/* Let an operation be the entry that is open here. */
static int
enter_entry(PyObject *self)
{
    PyObject *reference = PyWeakref_NewRef(self, NULL);
    PyObject *token = NULL;
    if (reference != NULL)
        token = PyContextVar_Set(state.current_entry, reference);
    Py_XDECREF(reference);
    if (token == NULL)
        return -1;
    set_slot(self, state.entry_token, token);
    return 0;
}

/* Whether an operation is an entry: no other one is open here. -1 with an exception. */
static int
is_entry(PyObject *self)
{
    PyObject *outer = NULL, *nested;
    if (peek_slot(self, state.id) == Py_None || is_collecting())
        return 0;
    if (PyContextVar_Get(state.current_entry, NULL, &outer) < 0)
        return -1;
    int is_first = outer == Py_None;
    Py_XDECREF(outer);
    if (is_first)
        return 1;
    if ((nested = PyObject_CallMethodNoArgs(self, state.str_is_nested)) == NULL)
        return -1;
    Py_DECREF(nested); /* a bool */
    return nested == Py_False;
}

/* Return the binding with which an operation starts. */
static PyObject *
binding_at_start(PyObject *self, PyObject *kind, PyObject *target)
{
    PyObject *tracer = get_slot(kind, state.kind_tracer), *place = get_slot(kind, state.kind_place);
    PyObject *id = get_slot(self, state.id), *binding = NULL;
    if (tracer != NULL && place != NULL && id != NULL)
        binding = find_recorder(tracer, PyLong_AsSsize_t(place), id == Py_None ? NULL : id);
    if (binding == NULL || !Py_IS_TYPE(binding, state.binding_type))
        Py_XSETREF(binding, PyObject_CallMethodObjArgs(kind, state.str_bound, target, id, NULL));
    Py_XDECREF(tracer);
    Py_XDECREF(place);
    Py_XDECREF(id);
    return binding;
}

/* Operation._open(): let it be the span and the entry that are open here. */
static int
open_operation(PyObject *self, PyObject *kind)
{
    if (PyList_GET_SIZE(state.active_suppressions) != 0) {
        PyObject *result = PyObject_CallMethodNoArgs(self, state.str_open);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    PyObject *target = dict_find(state.dispatch, state.str_target), *binding = NULL;
    if (target == NULL || target == Py_None) {
        Py_XDECREF(target);
        return 0;
    }
    int status = -1, is_first = is_entry(self);
    if (is_first >= 0 && (binding = binding_at_start(self, kind, target)) != NULL) {
        set_slot(self, state.binding, Py_NewRef(binding));
        status = is_collecting() ? 0 : open_span(self, binding);
    }
    Py_DECREF(target);
    Py_XDECREF(binding);
    return status == 0 && is_first ? enter_entry(self) : status;
}

/* Operation._begin(): count it among those that are active, and let its time begin. */
static int
begin_operation(PyObject *self, PyObject *active)
{
    set_slot(self, state.active, Py_NewRef(active));
    if (call_each(active, state.one) < 0 && swallow(self) < 0)
        return -1;
    set_slot(self, state.running, Py_NewRef(Py_True));
    PyObject *began = seconds();
    if (began == NULL)
        return -1;
    set_slot(self, state.began, began);
    return 0;
}

/* Start an operation of a class; `opens` says whether it is open here. */
static PyObject *
start_operation(PyObject *type, PyObject *const *args, Py_ssize_t nargs, int opens)
{
    if (nargs < 1 || nargs > 2 || !PyObject_TypeCheck(args[0], state.kind_type))
        return PyErr_SetString(PyExc_TypeError, "start takes a kind of operations, and functions"),
               NULL;
    PyObject *self = make_operation((PyTypeObject *)type, args[0]);
    if (self == NULL)
        return NULL;
    if ((opens && open_operation(self, args[0]) < 0 && swallow(self) < 0) ||
        begin_operation(self, nargs > 1 ? args[1] : state.empty) < 0)
        Py_CLEAR(self);
    return self;
}

static PyObject *
operation_start(PyObject *type, PyObject *const *args, Py_ssize_t nargs)
{
    return start_operation(type, args, nargs, 1);
}

static PyObject *
operation_start_aside(PyObject *type, PyObject *const *args, Py_ssize_t nargs)
{
    return start_operation(type, args, nargs, 0);
}

/* ---- End ------------------------------------------------------------------------------------- */

/* Return the binding that is known by a key, if it only takes a duration; NULL without an exception
   if the Python code must find or do more. */
static PyObject *
known_binding(PyObject *kind, PyObject *id, PyObject *key)
{
    PyObject *tracer = get_slot(kind, state.kind_tracer), *place = get_slot(kind, state.kind_place);
    PyObject *bindings = NULL, *known = NULL, *binding = NULL, *durations = NULL;
    if (tracer != NULL && place != NULL)
        bindings = find_recorder(tracer, -PyLong_AsSsize_t(place), id == Py_None ? NULL : id);
    if (bindings != NULL && Py_IS_TYPE(bindings, state.bindings_type))
        known = get_slot(bindings, state.bindings_known);
    if (known != NULL && PyDict_CheckExact(known))
        binding = dict_find(known, key);
    if (binding != NULL)
        durations = get_slot(binding, state.binding_durations);
    if (durations == NULL || !takes_durations(durations))
        Py_CLEAR(binding);
    Py_XDECREF(tracer);
    Py_XDECREF(place);
    Py_XDECREF(bindings);
    Py_XDECREF(known);
    Py_XDECREF(durations);
    PyErr_Clear(); /* the Python code raises it again */
    return binding;
}

/* Whether what ends is so plain that its key says all: a tuple, without an exception. */
static inline int
is_plain(PyObject *const *args, Py_ssize_t nargs)
{
    return nargs == 4 && PyTuple_CheckExact(args[3]) && args[2] == Py_None &&
           (args[1] == state.str_ok ||
            (PyUnicode_CheckExact(args[1]) && PyUnicode_Compare(args[1], state.str_ok) == 0));
}

static inline int
is_traced(void)
{
    return is_tracing_on() && PyList_GET_SIZE(state.active_suppressions) == 0;
}

/* Count that a span of a binding ran inside another span; return 0 if the Python code must. */
static int
count_edge(PyObject *edges, PyObject *outer)
{
    PyObject *outer_binding = get_slot(outer, state.binding), *count = NULL;
    if (outer_binding != NULL && PyDict_CheckExact(edges))
        count = dict_find(edges, outer_binding);
    int is_counted = count != NULL && run(count) == 0;
    Py_XDECREF(outer_binding);
    Py_XDECREF(count);
    return is_counted;
}

/* FinishedSpan.record() of an end that only adds a duration. `self` may be NULL: then one is made where
   the Python code is needed. */
static int
record_end(PyObject *self, PyObject *kind, PyObject *binding, PyObject *duration, PyObject *outer)
{
    PyObject *start = get_slot(binding, state.binding_start);
    PyObject *durations = get_slot(binding, state.binding_durations);
    PyObject *edges = get_some(binding, state.binding_edges);
    Py_ssize_t waiting = -1;
    if (start != NULL && durations != NULL && run(start) == 0)
        waiting = append(durations, duration);
    int is_done = outer == Py_None || edges == NULL || (waiting >= 0 && count_edge(edges, outer));
    Py_XDECREF(start);
    Py_XDECREF(durations);
    Py_XDECREF(edges);
    if (waiting < 0 || PyErr_Occurred())
        return -1;
    if (is_done && waiting <= state.max_buffered)
        return 0;
    PyObject *span =
        self != NULL ? Py_NewRef(self) : PyObject_CallOneArg((PyObject *)state.operation_type, kind);
    PyObject *result = NULL;
    if (span != NULL) {
        set_slot(span, state.binding, Py_NewRef(binding));
        result = PyObject_CallMethodOneArg(span, state.str_fold_and_count_edge,
                                           is_done ? Py_None : outer);
    }
    Py_XDECREF(span);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Operation._leave_entry(); keeps the exception, if there is one. */
static void
leave_entry(PyObject *self)
{
    PyObject *type, *error, *traceback, *found = NULL, *own = NULL;
    PyErr_Fetch(&type, &error, &traceback);
    set_slot(self, state.entry_name, Py_NewRef(state.no_name));
    PyObject *token = take_slot(self, state.entry_token, Py_NewRef(Py_None));
    if (token != NULL && token != Py_None && (own = PyWeakref_NewRef(self, NULL)) != NULL &&
        PyContextVar_Get(state.current_entry, NULL, &found) == 0 && found == own)
        PyContextVar_Reset(state.current_entry, token);
    PyErr_Clear(); /* it was opened in another context */
    Py_XDECREF(found);
    Py_XDECREF(own);
    Py_XDECREF(token);
    PyErr_Restore(type, error, traceback);
}

/* Return how long an operation took; NULL, maybe with an exception, if that is no usual number. */
static PyObject *
duration_of(PyObject *self)
{
    PyObject *duration = get_some(self, state.seconds);
    if (duration == NULL) {
        PyObject *began = get_slot(self, state.began), *now = began == NULL ? NULL : seconds();
        if (now != NULL)
            duration = PyNumber_Subtract(now, began);
        Py_XDECREF(began);
        Py_XDECREF(now);
    }
    if (duration != NULL && !is_duration(duration))
        Py_CLEAR(duration);
    return duration;
}

/* Call a method in Python. */
static PyObject *
call_python(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    PyObject *all[8]; /* borrowed: the object and the arguments */
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (count + 1 > (Py_ssize_t)Py_ARRAY_LENGTH(all))
        return PyErr_SetString(PyExc_TypeError, "too many arguments"), NULL;
    all[0] = self;
    memcpy(all + 1, args, (size_t)count * sizeof(PyObject *));
    return PyObject_Vectorcall(function, all, (size_t)nargs + 1, kwnames);
}

/* Record an operation that this call has ended. */
static int
record_operation(PyObject *self, PyObject *kind, PyObject *binding, PyObject *duration)
{
    PyObject *active = take_slot(self, state.active, Py_NewRef(state.empty));
    PyObject *at_start = get_slot(self, state.binding), *outer = Py_NewRef(Py_None);
    int status = active == NULL ? 0 : call_each(active, state.minus_one);
    if (status == 0 && at_start != NULL && peek_slot(self, state.token) != Py_None) {
        Py_XSETREF(outer, get_slot(self, state.outer));
        status = outer == NULL ? -1 : close_span(self, at_start, Py_None, &outer);
    }
    else if (status == 0 && !is_collecting()) {
        Py_SETREF(outer, current_span(self));
        status = outer == NULL ? -1 : 0;
    }
    if (status == 0) {
        set_slot(self, state.binding, Py_NewRef(binding));
        status = record_end(self, kind, binding, duration, outer);
    }
    Py_XDECREF(active);
    Py_XDECREF(at_start);
    Py_XDECREF(outer);
    return status;
}

static PyObject *
operation_end(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *kind = get_slot(self, state.kind), *id = get_slot(self, state.id);
    PyObject *binding = NULL, *duration = NULL, *result;
    if (kwnames == NULL && kind != NULL && id != NULL && is_plain(args, nargs) && is_traced() &&
        (id == Py_None || peek_slot(self, state.entry_token) != Py_None))
        binding = known_binding(kind, id, args[3]);
    if (binding != NULL && (duration = duration_of(self)) == NULL && !PyErr_Occurred())
        Py_CLEAR(binding);
    PyErr_Clear(); /* the Python code raises it again */
    if (duration == NULL)
        result = call_python(state.end_in_python, self, args, nargs, kwnames);
    else {
        PyObject *running = take_slot(self, state.running, NULL);
        result = Py_NewRef(Py_None);
        if (running != NULL) {
            if (record_operation(self, kind, binding, duration) < 0 && swallow(self) < 0)
                Py_CLEAR(result);
            leave_entry(self);
        }
        Py_XDECREF(running);
    }
    Py_XDECREF(kind);
    Py_XDECREF(id);
    Py_XDECREF(binding);
    Py_XDECREF(duration);
    return result;
}

/* Operations.record() */
static PyObject *
kind_record(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *binding = NULL, *outer = NULL;
    if (kwnames == NULL && nargs == 5 && is_plain(args + 1, nargs - 1) && is_duration(args[0]) &&
        peek_slot(self, state.kind_id) == Py_None && is_traced())
        binding = known_binding(self, Py_None, args[4]);
    if (binding == NULL)
        return call_python(state.record_in_python, self, args, nargs, kwnames);
    outer = is_collecting() ? Py_NewRef(Py_None) : current_span(self);
    int failed = outer == NULL || record_end(NULL, self, binding, args[0], outer) < 0;
    Py_DECREF(binding);
    Py_XDECREF(outer);
    return failed && swallow(self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Operations.count() */
static PyObject *
kind_count(PyObject *self, PyObject *props)
{
    PyObject *tracer = get_slot(self, state.kind_tracer), *place = get_slot(self, state.kind_place);
    PyObject *id = get_slot(self, state.kind_id), *record = NULL, *result;
    if (tracer != NULL && place != NULL && PyDict_CheckExact(props) && PyDict_GET_SIZE(props) != 0 &&
        is_traced())
        record = find_recorder(tracer, 1 - PyLong_AsSsize_t(place), id == Py_None ? NULL : id);
    if (record == NULL)
        result = call_python(state.count_in_python, self, &props, 1, NULL);
    else {
        result = PyObject_CallOneArg(record, props);
        if (result == NULL && swallow(self) == 0)
            result = Py_NewRef(Py_None);
    }
    Py_XDECREF(tracer);
    Py_XDECREF(place);
    Py_XDECREF(id);
    Py_XDECREF(record);
    return result;
}

/* ---- Module ---------------------------------------------------------------------------------- */

#define FAST(function) (PyCFunction)(void (*)(void))function

static PyMethodDef class_methods[] = {
    {"start", FAST(operation_start), METH_FASTCALL | METH_CLASS, NULL},
    {"start_aside", FAST(operation_start_aside), METH_FASTCALL | METH_CLASS, NULL}};

static struct {
    PyTypeObject **type;
    PyMethodDef method;
} methods[] = {
    {&state.operation_type, {"end", FAST(operation_end), METH_FASTCALL | METH_KEYWORDS, NULL}},
    {&state.kind_type, {"count", kind_count, METH_O, NULL}},
    {&state.kind_type, {"record", FAST(kind_record), METH_FASTCALL | METH_KEYWORDS, NULL}}};

static const Named strings[] = {
    {"target", &state.str_target},         {"bound", &state.str_bound},
    {"_open", &state.str_open},
    {"_is_nested", &state.str_is_nested},  {"ok", &state.str_ok},
    {"", &state.no_name},
    {"_fold_and_count_edge", &state.str_fold_and_count_edge}};

/* Objects that speed_up_operations() takes from its namespace, and where it stores them. */
static const Named objects[] = {
    {"Operation", (PyObject **)&state.operation_type},
    {"Operations", (PyObject **)&state.kind_type},
    {"SpanBinding", (PyObject **)&state.binding_type},
    {"PropsBindings", (PyObject **)&state.bindings_type},
    {"dispatch", &state.dispatch},
    {"_current_entry", &state.current_entry},
    {"active_suppressions", &state.active_suppressions},
    {"count_in_python", &state.count_in_python},
    {"end_in_python", &state.end_in_python},
    {"record_in_python", &state.record_in_python},
    {"MAX_BUFFERED", &state.buffered}};

static const NamedSlot slots[] = {
    {"Operation", "_began", &state.began},
    {"Operation", "_binding", &state.binding},
    {"Operation", "_outer", &state.outer},
    {"Operation", "_token", &state.token},
    {"Operation", "_active", &state.active},
    {"Operation", "entry_name", &state.entry_name},
    {"Operation", "_entry_token", &state.entry_token},
    {"Operation", "_id", &state.id},
    {"Operation", "_kind", &state.kind},
    {"Operation", "_running", &state.running},
    {"Operation", "seconds", &state.seconds},
    {"Operations", "id", &state.kind_id},
    {"Operations", "_place", &state.kind_place},
    {"Operations", "_template", &state.kind_template},
    {"Operations", "tracer", &state.kind_tracer},
    {"SpanBinding", "durations", &state.binding_durations},
    {"SpanBinding", "edges", &state.binding_edges},
    {"SpanBinding", "start", &state.binding_start},
    {"PropsBindings", "known", &state.bindings_known}};

/* speed_up_operations(namespace): take the objects of the Python modules, and put the methods into the
   classes; as speed_up(). */
static PyObject *
speed_up_operations(PyObject *Py_UNUSED(module), PyObject *names)
{
    if (take_objects(names, objects, Py_ARRAY_LENGTH(objects)) < 0 ||
        find_offsets(names, slots, Py_ARRAY_LENGTH(slots)) < 0)
        return NULL;
    state.max_buffered = PyLong_AsSsize_t(state.buffered);
    if (PyErr_Occurred())
        return NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(methods); i++)
        if (replace_method(*methods[i].type, &methods[i].method) < 0)
            return NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(class_methods); i++)
        if (replace_method(state.operation_type, &class_methods[i]) < 0)
            return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"speed_up_operations", speed_up_operations, METH_O,
     "Put the methods of operations into the Python classes."},
    {NULL, NULL, 0, NULL},
};

int
add_operations(PyObject *module)
{
    if (intern_strings(strings, Py_ARRAY_LENGTH(strings)) < 0 ||
        (state.one = PyLong_FromLong(1)) == NULL ||
        (state.minus_one = PyLong_FromLong(-1)) == NULL ||
        (state.empty = PyTuple_New(0)) == NULL)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
