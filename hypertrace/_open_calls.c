/* Open calls of traced functions: spans from the start of a call to its end, for every engine.

   An engine reports where a call starts, ends and runs in steps, by the frame that it runs in: the
   callbacks of sys.monitoring in _monitoring.c, the hooks in rewritten bytecode in _hooks.c.
   TracedCalls and SteppedSpan are the specification. A call whose span needs nothing but its times
   has no Span object; all other calls have one, which does the rest.

   Open calls are in one table by the addresses of their frames, which are unique while calls run,
   whatever threads, greenlets and generators do. The GIL protects it: what follows a look-up calls
   nothing before it has taken the call out, or holds what it uses. */

#define PY_SSIZE_T_CLEAN
#include "_open_calls.h"
#include <structmember.h>
#include "_speedups.h"

/* CPython 3.15 has not all of the old names. */
#if PY_VERSION_HEX < 0x030D0000
#define PyObject_GetOptionalAttr _PyObject_LookupAttr
#endif

#define MOST_KNOWN 256 /* classes that a record remembers */

typedef struct Call {
    struct Call *next;      /* in its bucket, or of the free ones */
    Frame *frame;
    PyThreadState *thread;  /* that runs it, or its latest step */
    Record *record;
    PyObject *binding, *tracer; /* of a call without a Span object */
    PyObject *span;             /* or its Span */
    PyObject *args, *kwargs;    /* for props that are found at the end, or NULL */
    double began, resumed, ended, busy;
    PyObject *generator;        /* weak: one that did not end when it was closed, or NULL */
    char is_running;            /* a step of it */
    char is_closing;            /* in the step */
} Call;

PyTypeObject *record_type;

static PyTypeObject *span_type, *stepped_type;
static PyObject *no_span;

static PyObject *str_tracer, *str__tracer, *str_span, *str_tracer_of, *str_known_class, *str_resume,
    *str_suspend, *str_end, *str_take_result;

/* Counts classes that are freed: their addresses may be of others then. */
static Py_ssize_t generation = 1;

/* ---- Table of open calls --------------------------------------------------------------------- */

static Call **buckets;
static size_t bucket_count; /* a power of two, or 0 */
static size_t call_count;
static Call *free_calls;
static size_t free_count;

#define MOST_FREE 256

static inline Call **
bucket_of(Frame *frame)
{
    size_t hash = ((size_t)frame >> 3) * (size_t)0x9E3779B97F4A7C15u;
    return &buckets[(hash >> 32) & (bucket_count - 1)];
}

/* Return the place that refers to the call in a frame; one that holds NULL if there is none. */
static inline Call **
place_of(Frame *frame)
{
    static Call *none;
    if (bucket_count == 0)
        return none = NULL, &none;
    Call **place = bucket_of(frame);
    while (*place != NULL && (*place)->frame != frame)
        place = &(*place)->next;
    return place;
}

static int
grow_table(void)
{
    size_t count = bucket_count == 0 ? 64 : 2 * bucket_count;
    Call **larger = PyMem_Calloc(count, sizeof(Call *)), **old = buckets;
    if (larger == NULL)
        return -1;
    size_t old_count = bucket_count;
    buckets = larger;
    bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (Call *call = old[i], *next; call != NULL; call = next) {
            next = call->next;
            Call **bucket = bucket_of(call->frame);
            call->next = *bucket;
            *bucket = call;
        }
    PyMem_Free(old);
    return 0;
}

static inline Call *
new_call(void)
{
    Call *call = free_calls;
    if (call == NULL)
        return PyMem_Calloc(1, sizeof(Call));
    free_calls = call->next;
    free_count--;
    return call;
}

/* Release a call that is in no table. */
static void
free_call(Call *call)
{
    Call held = *call;
    if (free_count < MOST_FREE) {
        memset(call, 0, sizeof(Call));
        call->next = free_calls;
        free_calls = call;
        free_count++;
    }
    else
        PyMem_Free(call);
    held.record->open--;
    Py_XDECREF(held.binding);
    Py_XDECREF(held.tracer);
    Py_XDECREF(held.span);
    Py_XDECREF(held.args);
    Py_XDECREF(held.kwargs);
    Py_XDECREF(held.generator);
    Py_DECREF(held.record);
}

/* Take the call in a frame out of the table; NULL if there is none. */
static inline Call *
take_call(Frame *frame)
{
    Call **place = place_of(frame), *call = *place;
    if (call != NULL) {
        *place = call->next;
        call_count--;
    }
    return call;
}

static int end_taken(Call *call, PyObject *result, PyObject *error);

/* End a call that has ended unseen, in a frame that another call has now. */
static int
end_stale(Call *call)
{
    if (call->record->is_stepped && !call->is_running)
        return end_taken(call, NULL, Py_None); /* with its latest step */
    free_call(call);
    return 0;
}

/* Put a call into the table. Return -1 if there is no memory for it. */
static int
put_call(Call *call, Record *record, PyThreadState *thread, Frame *frame)
{
    if (call_count >= bucket_count && grow_table() < 0)
        return -1;
    Call **bucket = bucket_of(frame);
    call->frame = frame;
    call->thread = thread;
    call->record = (Record *)Py_NewRef((PyObject *)record);
    record->open++;
    call->next = *bucket;
    *bucket = call;
    call_count++;
    return 0;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

/* A local variable that is an argument; a new reference, NULL if it is not set. */
static PyObject *
argument(Frame *frame, int index)
{
    PyObject *value = frame_local(frame, index);
    PyObject *kinds = frame_code(frame)->co_localspluskinds;
    if (value != NULL && PyBytes_AS_STRING(kinds)[index] & CO_FAST_CELL && PyCell_Check(value))
        return PyCell_Get(value);
    return Py_XNewRef(value);
}

/* The first argument, that may be the object of a method; a new reference, NULL if there is none. */
static PyObject *
first_argument(Record *record, Frame *frame)
{
    if (record->first < 0)
        return NULL;
    PyObject *value = argument(frame, record->first);
    if (record->positional > 0 || value == NULL)
        return value;
    PyObject *item = PyTuple_CheckExact(value) && PyTuple_GET_SIZE(value) > 0
                         ? Py_NewRef(PyTuple_GET_ITEM(value, 0))
                         : NULL;
    Py_DECREF(value);
    return item;
}

static int
add_positional(PyObject *list, Record *record, Frame *frame)
{
    int count = record->positional;
    for (int i = 0; i < count; i++) {
        PyObject *value = argument(frame, i);
        int status = value == NULL ? 0 : PyList_Append(list, value);
        Py_XDECREF(value);
        if (status < 0)
            return -1;
    }
    if (!record->has_varargs)
        return 0;
    PyObject *rest = argument(frame, count + record->keyword);
    Py_ssize_t size = PyList_GET_SIZE(list);
    int status = rest == NULL ? 0 : PyList_SetSlice(list, size, size, rest);
    Py_XDECREF(rest);
    return status;
}

static int
add_keywords(PyObject *dict, Record *record, Frame *frame)
{
    PyObject *names = frame_code(frame)->co_localsplusnames;
    int end = record->positional + record->keyword;
    for (int i = record->positional; i < end; i++) {
        PyObject *value = argument(frame, i);
        int status = value == NULL ? 0 : PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), value);
        Py_XDECREF(value);
        if (status < 0)
            return -1;
    }
    if (!record->has_varkw)
        return 0;
    PyObject *rest = argument(frame, end + record->has_varargs);
    int status = rest == NULL ? 0 : PyDict_Update(dict, rest);
    Py_XDECREF(rest);
    return status;
}

/* Return the arguments of a call that starts, as a caller would give them. */
static int
arguments_of(Record *record, Frame *frame, PyObject **args, PyObject **kwargs)
{
    PyObject *list = PyList_New(0);
    *args = NULL;
    *kwargs = PyDict_New();
    if (list != NULL && *kwargs != NULL && add_positional(list, record, frame) == 0 &&
        add_keywords(*kwargs, record, frame) == 0)
        *args = PyList_AsTuple(list);
    Py_XDECREF(list);
    if (*args == NULL)
        Py_CLEAR(*kwargs);
    return *args == NULL ? -1 : 0;
}

/* ---- Tracer of a call ------------------------------------------------------------------------ */

/* Forget the classes that a record knows. */
static void
forget_known(Record *record)
{
    KnownClass *known = record->known;
    int count = record->known_count;
    record->known = NULL;
    record->known_count = 0;
    for (int i = 0; i < count; i++)
        Py_XDECREF(known[i].tracer);
    PyMem_Free(known);
}

static inline KnownClass *
known_place(KnownClass *known, int count, PyTypeObject *type)
{
    size_t hash = ((size_t)type >> 4) * (size_t)0x9E3779B97F4A7C15u;
    return &known[(hash >> 32) & (size_t)(count - 1)];
}

/* Make room for more classes: of two at one place, the later one stays. */
static int
grow_known(Record *record)
{
    int count = record->known_count == 0 ? 1 : 2 * record->known_count;
    KnownClass *larger = PyMem_Calloc((size_t)count, sizeof(KnownClass));
    if (larger == NULL)
        return -1;
    for (int i = 0; i < record->known_count; i++) {
        KnownClass *place = known_place(larger, count, record->known[i].type);
        if (place->type == NULL)
            *place = record->known[i];
        else
            Py_XDECREF(record->known[i].tracer); /* held elsewhere as well */
    }
    PyMem_Free(record->known);
    record->known = larger;
    record->known_count = count;
    return 0;
}

/* Look a class up in Python, and remember it. Return -1 with an exception. */
static int
find_class(Record *record, PyTypeObject *type, KnownClass *found)
{
    Py_ssize_t current = generation;
    int is_plain;
    PyObject *tracer;
    PyObject *facts = PyObject_CallMethodOneArg(record->calls, str_known_class, (PyObject *)type);
    if (facts == NULL)
        return -1;
    if (!PyArg_ParseTuple(facts, "Op", &tracer, &is_plain)) {
        Py_DECREF(facts);
        return -1;
    }
    *found = (KnownClass){type, tracer == Py_None ? NULL : Py_NewRef(tracer), is_plain};
    Py_DECREF(facts);
    if (current != generation || record->generation != generation)
        return 0;
    KnownClass *place = NULL;
    if (record->known_count > 0)
        place = known_place(record->known, record->known_count, type);
    if ((place == NULL || place->type != NULL) && record->known_count < MOST_KNOWN)
        place = grow_known(record) < 0 ? NULL : known_place(record->known, record->known_count, type);
    if (place == NULL)
        return 0;
    PyObject *replaced = place->tracer;
    *place = (KnownClass){type, Py_XNewRef(found->tracer), is_plain};
    Py_XDECREF(replaced);
    return 0;
}

/* Find what is known of a class; the tracer is a new reference. Return -1 with an exception. */
static inline int
class_of(Record *record, PyTypeObject *type, KnownClass *found)
{
    if (record->generation != generation) {
        forget_known(record);
        record->generation = generation;
    }
    if (record->known_count > 0) {
        KnownClass *place = known_place(record->known, record->known_count, type);
        if (place->type == type) {
            *found = *place;
            Py_XINCREF(found->tracer);
            return 0;
        }
    }
    return find_class(record, type, found);
}

/* Return the enabled tracer that an object holds under a name, NULL if there is none. The object's
   class is plain: no code of it runs. */
static inline PyObject *
held_tracer(PyObject *holder, PyObject *name)
{
    PyObject *tracer = NULL;
    if (PyObject_GetOptionalAttr(holder, name, &tracer) < 0)
        PyErr_Clear();
    if (tracer != NULL && !is_tracer(tracer))
        Py_CLEAR(tracer);
    return tracer;
}

static PyObject *
tracer_in_python(Record *record, PyObject *first)
{
    PyObject *args = PyTuple_Pack(1, first);
    PyObject *tracer =
        args == NULL ? NULL : PyObject_CallMethodOneArg(record->calls, str_tracer_of, args);
    Py_XDECREF(args);
    return tracer;
}

/* Return the tracer for the calls with this first argument. */
static PyObject *
tracer_for(Record *record, PyObject *first)
{
    KnownClass known;
    int is_class = PyType_Check(first);
    PyTypeObject *type = is_class ? (PyTypeObject *)first : Py_TYPE(first);
    if (class_of(record, type, &known) < 0)
        return NULL;
    if (known.tracer == NULL) /* a static method: its first argument is no `self` */
        return Py_NewRef(record->own_tracer);
    int is_python = is_class ? _PyType_Lookup(type, str_tracer) != NULL ||
                                   _PyType_Lookup(type, str__tracer) != NULL
                             : !known.is_plain;
    PyObject *held = NULL;
    if (is_python) {
        Py_DECREF(known.tracer);
        return tracer_in_python(record, first);
    }
    if (!is_class && (held = held_tracer(first, str_tracer)) == NULL)
        held = held_tracer(first, str__tracer);
    if (held == NULL)
        return known.tracer;
    Py_DECREF(known.tracer);
    return held;
}

/* Return the tracer of a call that starts in a frame, as TracedCalls does. */
static PyObject *
tracer_of(Record *record, Frame *frame)
{
    PyObject *first = record->has_self ? first_argument(record, frame) : NULL;
    if (first == NULL)
        return Py_NewRef(record->own_tracer);
    PyObject *tracer = tracer_for(record, first);
    Py_DECREF(first);
    return tracer;
}

int
is_within(Record *record, Frame *frame)
{
    if (record->within == NULL)
        return 1;
    PyObject *first = first_argument(record, frame);
    int is_within =
        first != NULL &&
        (PyType_IsSubtype(Py_TYPE(first), record->within) ||
         (PyType_Check(first) && PyType_IsSubtype((PyTypeObject *)first, record->within)));
    Py_XDECREF(first);
    return is_within;
}

/* ---- Start ----------------------------------------------------------------------------------- */

static int
call_method(PyObject *object, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Open a call that needs nothing but its times. Steals the references to binding and tracer. */
static int
open_plain(Record *record, PyThreadState *thread, Frame *frame, PyObject *binding, PyObject *tracer)
{
    Call *call = NULL;
    double began;
    if (start_binding(binding) < 0 || read_clock(&began) < 0 || (call = new_call()) == NULL ||
        put_call(call, record, thread, frame) < 0) {
        PyMem_Free(call);
        Py_DECREF(binding);
        Py_DECREF(tracer);
        return PyErr_Occurred() ? -1 : 0;
    }
    call->binding = binding;
    call->tracer = tracer;
    call->began = call->resumed = call->ended = began;
    call->is_running = 1;
    return 0;
}

/* Open a call with a Span. Steals the references; args and kwargs may be NULL. */
static int
open_span_call(Record *record, PyThreadState *thread, Frame *frame, PyObject *span, PyObject *args,
               PyObject *kwargs)
{
    int status;
    Call *call = NULL;
    if (record->is_stepped)
        status = call_method(span, str_resume);
    else {
        PyObject *entered = span_enter(span, NULL);
        status = entered == NULL ? -1 : 0;
        Py_XDECREF(entered);
    }
    if (status < 0 || (call = new_call()) == NULL || put_call(call, record, thread, frame) < 0) {
        PyMem_Free(call);
        Py_DECREF(span);
        Py_XDECREF(args);
        Py_XDECREF(kwargs);
        return status;
    }
    call->span = span;
    call->args = args;
    call->kwargs = kwargs;
    call->is_running = 1;
    return 0;
}

/* Open a call with the span that TracedCalls makes. */
static int
open_in_python(Record *record, PyThreadState *thread, Frame *frame)
{
    PyObject *args, *kwargs, *span;
    if (arguments_of(record, frame, &args, &kwargs) < 0)
        return swallow(record->calls);
    PyObject *kind = (PyObject *)(record->is_stepped ? stepped_type : span_type);
    span = PyObject_CallMethodObjArgs(record->calls, str_span, args, kwargs, kind, NULL);
    if (!record->needs_call) {
        Py_CLEAR(args);
        Py_CLEAR(kwargs);
    }
    if (span != NULL && span != no_span)
        return open_span_call(record, thread, frame, span, args, kwargs);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(span);
    return span == NULL ? -1 : 0;
}

static PyObject *
span_for(Record *record, PyObject *binding, PyObject *tracer)
{
    return record->is_stepped
               ? PyObject_CallFunctionObjArgs((PyObject *)stepped_type, binding, tracer, NULL)
               : new_span(binding, tracer);
}

static int
start_call(Record *record, PyThreadState *thread, Frame *frame)
{
    int dropped = drop_if_suppressed();
    if (dropped != 0)
        return dropped < 0 ? -1 : 0;
    if (!record->is_plain)
        return open_in_python(record, thread, frame);
    PyObject *tracer = tracer_of(record, frame), *binding = NULL, *span;
    if (tracer == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1; /* an interrupt */
        PyErr_Clear(); /* raised again, and handled, in Python */
    }
    else
        binding = find_binding(tracer, record->address, record->id);
    if (binding == NULL) {
        Py_XDECREF(tracer);
        return open_in_python(record, thread, frame);
    }
    if (!tracks_edges(binding))
        return open_plain(record, thread, frame, binding, tracer);
    span = span_for(record, binding, tracer);
    Py_DECREF(tracer);
    Py_DECREF(binding);
    return span == NULL ? swallow(record->calls)
                        : open_span_call(record, thread, frame, span, NULL, NULL);
}

int
open_call(Record *record, PyThreadState *thread, Frame *frame)
{
    Py_INCREF(record);
    record->open++; /* from now on: other threads may run in between, and end the tracing */
    Call *stale = take_call(frame);
    int status = stale == NULL ? 0 : end_stale(stale);
    if (status == 0)
        status = start_call(record, thread, frame);
    record->open--;
    Py_DECREF(record);
    return status;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

int
step_in(PyThreadState *thread, Frame *frame)
{
    Call *call = *place_of(frame);
    if (call == NULL || call->is_running)
        return 0;
    call->is_running = 1;
    call->thread = thread;
    if (call->span == NULL)
        return read_clock(&call->resumed);
    PyObject *span = Py_NewRef(call->span);
    int status = call_method(span, str_resume);
    Py_DECREF(span);
    return status;
}

/* Add the time of a step to a call. */
static int
end_step(Call *call)
{
    if (!call->is_running)
        return 0;
    call->is_running = 0;
    if (call->span == NULL) {
        double now;
        int status = read_clock(&now);
        call->ended = now;
        call->busy += now - call->resumed;
        return status;
    }
    PyObject *span = Py_NewRef(call->span);
    int status = call_method(span, str_suspend);
    Py_DECREF(span);
    return status;
}

void
expect_close(Frame *frame)
{
    Call *call = *place_of(frame);
    if (call != NULL)
        call->is_closing = 1;
}

/* End the call of a generator that is freed; `address` is that of its frame. */
static PyObject *
generator_freed(PyObject *address, PyObject *Py_UNUSED(reference))
{
    return end_call(PyLong_AsVoidPtr(address), NULL, Py_None) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef freed_method = {"generator_freed", generator_freed, METH_O, NULL};

static PyObject *
reference_to(PyObject *generator, Frame *frame)
{
    PyObject *address = PyLong_FromVoidPtr(frame);
    PyObject *callback = address == NULL ? NULL : PyCFunction_New(&freed_method, address);
    PyObject *reference = callback == NULL ? NULL : PyWeakref_NewRef(generator, callback);
    Py_XDECREF(address);
    Py_XDECREF(callback);
    return reference;
}

/* End a step in which a generator was closed and yields nevertheless.

   If the interpreter closes it because the last reference is gone, it frees it now, and a weak
   reference would come too late. */
static int
end_closing_step(Call *call)
{
    PyFrameObject *running = PyEval_GetFrame(); /* borrowed */
    PyObject *generator = running == NULL ? NULL : PyFrame_GetGenerator(running);
    int is_last = generator != NULL && Py_REFCNT(generator) == 2; /* ours, and one more */
    call->is_closing = 0;
    if (generator != NULL && !is_last && call->generator == NULL &&
        (call->generator = reference_to(generator, call->frame)) == NULL)
        PyErr_Clear();
    Py_XDECREF(generator);
    return is_last ? end_call(call->frame, NULL, Py_None) : end_step(call);
}

int
step_out(Frame *frame)
{
    Call *call = *place_of(frame);
    if (call == NULL)
        return 0;
    return call->is_closing ? end_closing_step(call) : end_step(call);
}

/* ---- End ------------------------------------------------------------------------------------- */

static int
take_result(Call *call, PyObject *result)
{
    if (!call->record->needs_result || result == NULL)
        return 0;
    PyObject *taken = PyObject_CallMethodObjArgs(call->record->calls, str_take_result, call->span,
                                                 result, call->args, call->kwargs, NULL);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

static int
end_span_call(Call *call, PyObject *result, PyObject *error)
{
    PyObject *ended;
    if (call->record->is_stepped) {
        if (end_step(call) < 0 || take_result(call, result) < 0)
            return -1;
        ended = PyObject_CallMethodOneArg(call->span, str_end, error);
    }
    else {
        if (take_result(call, result) < 0)
            return -1;
        PyObject *ending[] = {error == Py_None ? Py_None : (PyObject *)Py_TYPE(error), error, Py_None};
        ended = span_exit(call->span, ending, 3);
    }
    Py_XDECREF(ended);
    return ended == NULL ? -1 : 0;
}

static int
end_plain_call(Call *call, PyObject *error)
{
    int is_stepped = call->record->is_stepped;
    if (end_step(call) < 0)
        return -1;
    return end_plain_span(call->binding, call->tracer, call->began, call->ended - call->began,
                          is_stepped ? &call->busy : NULL, error);
}

/* End a call that is in no table. */
static int
end_taken(Call *call, PyObject *result, PyObject *error)
{
    int status = call->span == NULL ? end_plain_call(call, error) : end_span_call(call, result, error);
    PyObject *type, *raised, *traceback; /* what is released may run code */
    PyErr_Fetch(&type, &raised, &traceback);
    free_call(call);
    PyErr_Restore(type, raised, traceback);
    return status;
}

int
end_call(Frame *frame, PyObject *result, PyObject *error)
{
    Call *call = take_call(frame);
    return call == NULL ? 0 : end_taken(call, result, error);
}

/* ---- Record ---------------------------------------------------------------------------------- */

static PyObject *
record_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *calls, *within, *id, *tracer;
    PyCodeObject *code;
    Py_ssize_t address;
    int is_plain, has_self, needs_result, needs_call;
    if (!PyArg_ParseTuple(args, "OO!OnOOpppp", &calls, &PyCode_Type, &code, &within, &address, &id,
                          &tracer, &is_plain, &has_self, &needs_result, &needs_call))
        return NULL;
    if (within != Py_None && !PyType_Check(within))
        return PyErr_Format(PyExc_TypeError, "within must be a class, not %R", within), NULL;
    Record *self = (Record *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->calls = Py_NewRef(calls);
    self->own_tracer = Py_NewRef(tracer);
    self->id = id == Py_None ? NULL : Py_NewRef(id);
    self->within = within == Py_None ? NULL : (PyTypeObject *)Py_NewRef(within);
    self->address = address;
    self->positional = code->co_argcount;
    self->keyword = code->co_kwonlyargcount;
    self->has_varargs = (code->co_flags & CO_VARARGS) != 0;
    self->has_varkw = (code->co_flags & CO_VARKEYWORDS) != 0;
    self->first = code->co_argcount > 0 ? 0 : self->has_varargs ? self->keyword : -1;
    self->is_stepped = (code->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) != 0;
    self->is_plain = is_plain && (id == Py_None || PyUnicode_CheckExact(id));
    self->has_self = has_self;
    self->needs_result = needs_result && !(code->co_flags & CO_ASYNC_GENERATOR); /* it has none */
    self->needs_call = needs_call;
    return (PyObject *)self;
}

static int
record_traverse(PyObject *object, visitproc visit, void *arg)
{
    Record *self = (Record *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->calls);
    Py_VISIT(self->own_tracer);
    Py_VISIT(self->moved_to);
    Py_VISIT(self->within);
    for (int i = 0; i < self->known_count; i++)
        Py_VISIT(self->known[i].tracer);
    return 0;
}

static int
record_clear(PyObject *object)
{
    Record *self = (Record *)object;
    Py_CLEAR(self->calls);
    Py_CLEAR(self->own_tracer);
    Py_CLEAR(self->moved_to);
    Py_CLEAR(self->within);
    forget_known(self);
    return 0;
}

static void
record_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    record_clear(object);
    Py_CLEAR(((Record *)object)->id);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMemberDef record_members[] = {
    {"calls", T_OBJECT, offsetof(Record, calls), READONLY, "What opens the spans of the calls."},
    {"within", T_OBJECT, offsetof(Record, within), READONLY, "The class of the objects, or None."},
    {"moved_to", T_OBJECT, offsetof(Record, moved_to), 0, "The next record, and its code."},
    {"open", T_PYSSIZET, offsetof(Record, open), READONLY, "How many calls have not ended."},
    {"holders", T_PYSSIZET, offsetof(Record, holders), 0, "How many wanted the function traced."},
    {"is_ending", T_BOOL, offsetof(Record, is_ending), 0, "Whether no call starts any more."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot record_slots[] = {
    {Py_tp_doc, "The calls of one traced function."},
    {Py_tp_new, record_new},
    {Py_tp_traverse, record_traverse},
    {Py_tp_clear, record_clear},
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_members, record_members},
    {0, NULL},
};

static PyType_Spec record_spec = {
    .name = "hypertrace._speedups.Record",
    .basicsize = sizeof(Record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = record_slots,
};

/* ---- Module ---------------------------------------------------------------------------------- */

/* trace_calls(Span, SteppedSpan, NO_SPAN): take the Python classes. */
static PyObject *
trace_calls(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *span, *stepped, *none;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyType_Type, &span, &PyType_Type, &stepped, &none))
        return NULL;
    /* The old ones are not released: other threads may still use them. */
    span_type = (PyTypeObject *)Py_NewRef(span);
    stepped_type = (PyTypeObject *)Py_NewRef(stepped);
    no_span = Py_NewRef(none);
    Py_RETURN_NONE;
}

static PyObject *
forget_classes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    generation++;
    Py_RETURN_NONE;
}

static PyObject *
open_calls(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(call_count);
}

/* Drop the calls that other threads were running when the process forked. */
static PyObject *
forget_other_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyThreadState *thread = PyThreadState_Get();
    Call *dropped = NULL;
    for (size_t i = 0; i < bucket_count; i++)
        for (Call **place = &buckets[i], *call; (call = *place) != NULL;) {
            if (!call->is_running || call->thread == thread) {
                place = &call->next;
                continue;
            }
            *place = call->next;
            call_count--;
            call->next = dropped;
            dropped = call;
        }
    while (dropped != NULL) {
        Call *call = dropped;
        dropped = call->next;
        free_call(call);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"trace_calls", trace_calls, METH_VARARGS, "Take the classes of spans."},
    {"forget_classes", forget_classes, METH_NOARGS, "Forget the classes of objects, as one is freed."},
    {"open_calls", open_calls, METH_NOARGS, "Return how many calls have not ended."},
    {"forget_other_threads", forget_other_threads, METH_NOARGS,
     "Drop the calls that other threads were running when the process forked."},
    {NULL, NULL, 0, NULL},
};

static const Named strings[] = {
    {"tracer", &str_tracer},         {"_tracer", &str__tracer},         {"span", &str_span},
    {"_tracer_of", &str_tracer_of},  {"known_class", &str_known_class}, {"resume", &str_resume},
    {"suspend", &str_suspend},       {"end", &str_end},                 {"take_result", &str_take_result}};

int
add_open_calls(PyObject *module)
{
    if (intern_strings(strings, Py_ARRAY_LENGTH(strings)) < 0)
        return -1;
    return add_type(module, &record_spec, &record_type) < 0 ? -1
                                                            : PyModule_AddFunctions(module, functions);
}
