/* Engine that traces Python functions where they are, with the events of sys.monitoring, from CPython
   3.12 on: nothing about a function changes.

   The events of a code object are set while one of its functions is traced and a trace function is
   set; until the calls that are open then have ended, they stay. Functions with one code object are
   distinguished by the frame, which refers to its function.

   Python code that a callback runs, such as the trace function, is itself traced: the interpreter
   would send no event meanwhile, not even to other tools, nor in greenlets that take over. */

#define PY_SSIZE_T_CLEAN
#include "_open_calls.h"
#include <structmember.h>
#include "_speedups.h"

#if PY_VERSION_HEX >= 0x030C0000

#if PY_VERSION_HEX < 0x030E0000
#define RESUME_OPCODE 149 /* its header has names that clash with ours */
#endif

#define HAS_LOCAL_UNWIND (PY_VERSION_HEX >= 0x030F0000)

/* A function that is traced. */
typedef struct {
    PyObject *function;  /* borrowed; NULL: it is gone */
    PyObject *reference; /* weak, and takes the function out when it is freed */
    Record *record;
} Entry;

/* What is traced of a code object; belongs to it, as its extra. */
typedef struct Traced {
    struct Traced *next, *previous;
    PyObject *code; /* borrowed */
    Entry *entries; /* by the address of the function; those of one function as they were added */
    Py_ssize_t count, size;
    long events;
    int is_closing; /* whether there is less to trace once the open calls have ended */
} Traced;

static Traced all = {.next = &all, .previous = &all};
static Py_ssize_t extra_index = -1;
static Py_ssize_t entry_count;
static int tool = -1;
static Py_ssize_t closing_count, armed_count; /* code objects that are closing; that have events */

static PyObject *monitoring; /* sys.monitoring */
static PyObject *on_new_code; /* of _engines */
static struct {
    const char *name;
    long value;
} events[] = {{"PY_START", 0}, {"PY_RETURN", 0}, {"PY_RESUME", 0},
              {"PY_YIELD", 0}, {"PY_UNWIND", 0}, {"PY_THROW", 0}};
enum { START, RETURN, RESUME, YIELD, UNWIND, THROW };

/* ---- Code objects ---------------------------------------------------------------------------- */

static inline Traced *
traced_of(PyObject *code)
{
    void *extra = NULL;
    if (PyUnstable_Code_GetExtra(code, extra_index, &extra) < 0)
        PyErr_Clear();
    return extra;
}

/* Called by the interpreter when a code object is freed, or has another extra. */
static void
free_traced(void *extra)
{
    Traced *self = extra;
    if (self == NULL)
        return;
    self->next->previous = self->previous;
    self->previous->next = self->next;
    closing_count -= self->is_closing;
    armed_count -= self->events != 0;
    Entry *entries = self->entries;
    Py_ssize_t count = self->count;
    PyMem_Free(self);
    entry_count -= count;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(entries[i].reference);
        Py_DECREF(entries[i].record);
    }
    PyMem_Free(entries);
}

static Traced *
new_traced(PyObject *code)
{
    Traced *self = PyMem_Calloc(1, sizeof(Traced));
    if (self == NULL)
        return PyErr_NoMemory(), NULL;
    self->code = code;
    self->next = &all;
    self->previous = all.previous;
    self->previous->next = self->next->previous = self;
    if (PyUnstable_Code_SetExtra(code, extra_index, self) == 0)
        return self;
    free_traced(self);
    return NULL;
}

/* Return the index of the first entry of a function, or where it would be. */
static inline Py_ssize_t
find_entry(const Traced *self, PyObject *function)
{
    Py_ssize_t low = 0, high = self->count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if ((size_t)self->entries[middle].function < (size_t)function)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Return the record that traces the call in a frame, borrowed; NULL if none does. */
static inline Record *
record_for(const Traced *self, Frame *frame)
{
    PyObject *function = frame_function(frame);
    for (Py_ssize_t i = find_entry(self, function); i < self->count; i++) {
        if (self->entries[i].function != function)
            break;
        Record *record = self->entries[i].record;
        if (!record->is_ending && is_within(record, frame))
            return record;
    }
    return NULL;
}

/* ---- Events ---------------------------------------------------------------------------------- */

static int
set_local_events(PyObject *code, long set)
{
    PyObject *result = PyObject_CallMethod(monitoring, "set_local_events", "iOl", tool, code, set);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The events that are set where calls start. */
static long
events_of(PyObject *code)
{
    long set = events[START].value | events[RETURN].value;
    if (((PyCodeObject *)code)->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR))
        set |= events[RESUME].value | events[YIELD].value;
#if HAS_LOCAL_UNWIND
    set |= events[UNWIND].value | events[THROW].value;
#endif
    return set;
}

/* Let generators of a code object run to their end when they are closed, or not.

   CPython 3.13.0 just drops one that is suspended outside of any `try`, without an event. It finds this
   out by a bit in the argument of the RESUME where the generator is, which has no other meaning. Code
   that reads `co_code` gets a copy, which is made here first and keeps the bit. */
static int
run_to_end(PyObject *code, int is_on)
{
#if PY_VERSION_HEX < 0x030D0000 || PY_VERSION_HEX >= 0x030E0000
    (void)code;
    (void)is_on;
#else
    enum { AT_DEPTH_1 = 0x4, WAS_AT_DEPTH_1 = 0x8 };
    int from = is_on ? AT_DEPTH_1 : WAS_AT_DEPTH_1, to = is_on ? WAS_AT_DEPTH_1 : AT_DEPTH_1;
    PyObject *copy = PyCode_GetCode((PyCodeObject *)code); /* without what the interpreter changed */
    if (copy == NULL)
        return -1;
    const unsigned char *read = (unsigned char *)PyBytes_AS_STRING(copy);
    unsigned char *written = (unsigned char *)((PyCodeObject *)code)->co_code_adaptive;
    for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(copy); i += 2)
        if (read[i] == RESUME_OPCODE && written[i + 1] & from)
            written[i + 1] = (unsigned char)((written[i + 1] & ~from) | to);
    Py_DECREF(copy);
#endif
    return 0;
}

/* Set the events that no code object can have for itself, while some code object has others. Each
   change costs each code object of the process some time. */
static int
set_global_events(void)
{
#if HAS_LOCAL_UNWIND
    return 0;
#else
    static long current;
    long set = armed_count > 0 ? events[UNWIND].value | events[THROW].value : 0;
    if (set == current)
        return 0;
    current = set;
    PyObject *result = PyObject_CallMethod(monitoring, "set_events", "il", tool, set);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
#endif
}

/* Take out one entry that is no longer needed. Return 0 if there is none. It may run any code. */
static int
remove_ended(Traced *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Entry entry = self->entries[i];
        if (!entry.record->is_ending || entry.record->open > 0)
            continue;
        self->count--;
        entry_count--;
        memmove(&self->entries[i], &self->entries[i + 1],
                (size_t)(self->count - i) * sizeof(Entry));
        Py_DECREF(entry.reference);
        Py_DECREF(entry.record);
        return 1;
    }
    return 0;
}

/* Set the events that a code object needs now, and remove what is no longer traced. */
static int
tidy(PyObject *code)
{
    Traced *self;
    while ((self = traced_of(code)) != NULL && remove_ended(self)) /* look again */;
    if (self == NULL)
        return 0;
    int is_on = is_tracing_on(), starting = 0, open = 0;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const Record *record = self->entries[i].record;
        starting += is_on && !record->is_ending;
        open += record->open > 0;
    }
    int is_closing = open > 0 && (!is_on || starting < self->count);
    closing_count += is_closing - self->is_closing;
    self->is_closing = is_closing;
    long wanted = starting > 0 || open > 0 ? events_of(code) : 0, before = self->events;
    armed_count += (wanted != 0) - (before != 0);
    self->events = wanted;
    if (self->count == 0)
        PyUnstable_Code_SetExtra(code, extra_index, NULL); /* frees it */
    if (wanted == before)
        return 0;
    return run_to_end(code, wanted != 0) < 0 ? -1 : set_local_events(code, wanted);
}

/* Set the events of all code objects, as a trace function was set or cleared. */
static int
tidy_all(void)
{
    int status = 0;
    PyObject *codes = PyList_New(0); /* strong: each step may free others */
    for (Traced *each = all.next; codes != NULL && each != &all; each = each->next)
        if (PyList_Append(codes, each->code) < 0)
            Py_CLEAR(codes);
    for (Py_ssize_t i = 0; codes != NULL && i < PyList_GET_SIZE(codes); i++)
        if (tidy(PyList_GET_ITEM(codes, i)) < 0)
            status = -1;
    Py_XDECREF(codes);
    return codes == NULL ? -1 : status;
}

/* ---- Callbacks ------------------------------------------------------------------------------- */

/* What a callback has changed for the Python code that it runs. */
typedef struct {
    PyThreadState *thread;
    int is_traced;
} Pause;

/* Return the result of a callback whose steps returned -1 for an exception. */
static inline PyObject *
finish(Pause pause, int status)
{
    give_room(pause.thread, -ROOM);
    if (pause.is_traced)
        PyThreadState_EnterTracing(pause.thread);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* A profile function has not seen the call that starts, which Python code of the callback is called by:
   it would be called in the wrong order. */
static inline Pause
begin(void)
{
    PyThreadState *thread = PyThreadState_Get();
    Pause pause = {thread, thread->c_profilefunc == NULL};
    if (pause.is_traced)
        PyThreadState_LeaveTracing(thread);
    give_room(thread, ROOM);
    return pause;
}

/* Look again at the events of a code object whose tracing ends, as a call has ended or has not begun. */
static inline void
tidy_closing(PyObject *code)
{
    Traced *traced = closing_count == 0 ? NULL : traced_of(code);
    if (traced == NULL || !traced->is_closing)
        return;
    PyObject *type, *raised, *traceback;
    PyErr_Fetch(&type, &raised, &traceback);
    if (tidy(code) < 0 || set_global_events() < 0)
        PyErr_Clear();
    PyErr_Restore(type, raised, traceback);
}

static PyObject *
on_start(PyObject *Py_UNUSED(self), PyObject *const *args, size_t Py_UNUSED(nargs),
         PyObject *Py_UNUSED(kwnames))
{
    Traced *traced = traced_of(args[0]);
    if (traced == NULL)
        Py_RETURN_NONE;
    Pause pause = begin();
    Frame *frame = current_frame(pause.thread);
    Record *record = record_for(traced, frame);
    int status = record == NULL ? 0 : open_call(record, pause.thread, frame);
    tidy_closing(args[0]);
    return finish(pause, status);
}

static int
end(PyThreadState *thread, PyObject *code, PyObject *result, PyObject *error)
{
    int status = end_call(current_frame(thread), result, error);
    tidy_closing(code);
    return status;
}

static PyObject *
on_return(PyObject *Py_UNUSED(self), PyObject *const *args, size_t Py_UNUSED(nargs),
          PyObject *Py_UNUSED(kwnames))
{
    Pause pause = begin();
    return finish(pause, end(pause.thread, args[0], args[2], Py_None));
}

/* On CPython before 3.15, called for each frame of the process that an exception leaves. */
static PyObject *
on_unwind(PyObject *Py_UNUSED(self), PyObject *const *args, size_t Py_UNUSED(nargs),
          PyObject *Py_UNUSED(kwnames))
{
    if (traced_of(args[0]) == NULL)
        Py_RETURN_NONE;
    Pause pause = begin();
    return finish(pause, end(pause.thread, args[0], NULL, args[2]));
}

/* Also for PY_THROW, which CPython before 3.15 sends for each generator of the process. */
static PyObject *
on_resume(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), size_t Py_UNUSED(nargs),
          PyObject *Py_UNUSED(kwnames))
{
    Pause pause = begin();
    return finish(pause, step_in(pause.thread, current_frame(pause.thread)));
}

/* An exception here would leave a generator that the interpreter takes for suspended: it is raised
   at the next instruction that can. */
static PyObject *
on_yield(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), size_t Py_UNUSED(nargs),
         PyObject *Py_UNUSED(kwnames))
{
    Pause pause = begin();
    if (step_out(current_frame(pause.thread)) < 0) {
        PyObject *type, *raised, *traceback;
        PyErr_Fetch(&type, &raised, &traceback);
        PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), type);
        Py_XDECREF(type);
        Py_XDECREF(raised);
        Py_XDECREF(traceback);
    }
    return finish(pause, 0);
}

/* An object that calls one of these functions. A call of a C function would count as one more level
   of recursion, at which a program may be at its limit. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
} Callback;

static const vectorcallfunc callbacks[] = {
    [START] = on_start, [RETURN] = on_return, [RESUME] = on_resume,
    [YIELD] = on_yield, [UNWIND] = on_unwind, [THROW] = on_resume};

static PyTypeObject *callback_type;

static void
callback_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef callback_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Callback, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot callback_slots[] = {
    {Py_tp_doc, "A callback of sys.monitoring."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_dealloc, callback_dealloc},
    {Py_tp_members, callback_members},
    {0, NULL},
};

static PyType_Spec callback_spec = {
    .name = "hypertrace._speedups.Callback",
    .basicsize = sizeof(Callback),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = callback_slots,
};

/* Let Python code trace a function whose code is set, as by types.coroutine(), in its new code. */
static int
on_function(PyFunction_WatchEvent event, PyFunctionObject *function, PyObject *code)
{
    if (event != PyFunction_EVENT_MODIFY_CODE)
        return 0;
    Traced *traced = traced_of(function->func_code);
    if (traced == NULL || code == NULL || code == function->func_code)
        return 0;
    PyObject *result = PyObject_CallFunctionObjArgs(on_new_code, function, code, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---- Tool ------------------------------------------------------------------------------------ */

static int
register_callbacks(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(callbacks); i++) {
        Callback *callback = (Callback *)callback_type->tp_alloc(callback_type, 0);
        if (callback == NULL)
            return -1;
        callback->call = callbacks[i];
        PyObject *result = PyObject_CallMethod(monitoring, "register_callback", "ilO", tool,
                                               events[i].value, callback);
        Py_DECREF(callback);
        Py_XDECREF(result);
        if (result == NULL)
            return -1;
    }
    return 0;
}

static int
is_free(int id)
{
    PyObject *name = PyObject_CallMethod(monitoring, "get_tool", "i", id);
    int is_free = name == Py_None;
    Py_XDECREF(name);
    return name == NULL ? -1 : is_free;
}

/* Take the id of a tool; those that debuggers, coverage and profilers have by convention last. Return
   0 if there is none. */
static int
take_tool(void)
{
    static const int ids[] = {3, 4, 5, 2, 1, 0};
    if (tool >= 0)
        return 1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(ids); i++) {
        int free = is_free(ids[i]);
        if (free < 0)
            return -1;
        if (!free)
            continue;
        PyObject *result = PyObject_CallMethod(monitoring, "use_tool_id", "is", ids[i], "hypertrace");
        Py_XDECREF(result);
        if (result == NULL)
            return -1;
        tool = ids[i];
        return register_callbacks() < 0 || PyFunction_AddWatcher(on_function) < 0 ? -1 : 1;
    }
    return 0;
}

/* ---- Functions of the module ----------------------------------------------------------------- */

static int
insert_entry(Traced *self, PyObject *function, PyObject *reference, Record *record)
{
    if (self->count == self->size) {
        Py_ssize_t size = self->size == 0 ? 1 : 2 * self->size;
        Entry *larger = PyMem_Realloc(self->entries, (size_t)size * sizeof(Entry));
        if (larger == NULL)
            return PyErr_NoMemory(), -1;
        self->entries = larger;
        self->size = size;
    }
    Py_ssize_t place = find_entry(self, function);
    while (place < self->count && self->entries[place].function == function)
        place++;
    memmove(&self->entries[place + 1], &self->entries[place],
            (size_t)(self->count - place) * sizeof(Entry));
    self->entries[place] =
        (Entry){function, Py_NewRef(reference), (Record *)Py_NewRef((PyObject *)record)};
    self->count++;
    entry_count++;
    return 0;
}

/* Take the entries of a function that is freed out; its memory is still there. The events that no code
   object can have for itself stay: the function may be made again. */
static PyObject *
function_freed(PyObject *address, PyObject *Py_UNUSED(reference))
{
    PyObject *function = PyLong_AsVoidPtr(address);
    PyObject *code = Py_NewRef(PyFunction_GET_CODE(function));
    Traced *self = traced_of(code);
    if (self != NULL)
        for (Py_ssize_t i = find_entry(self, function);
             i < self->count && self->entries[i].function == function; i++)
            self->entries[i].record->is_ending = 1;
    int status = tidy(code);
    Py_DECREF(code);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef freed_method = {"function_freed", function_freed, METH_O, NULL};

static PyObject *
reference_to(PyObject *function)
{
    PyObject *address = PyLong_FromVoidPtr(function);
    PyObject *callback = address == NULL ? NULL : PyCFunction_New(&freed_method, address);
    PyObject *reference = callback == NULL ? NULL : PyWeakref_NewRef(function, callback);
    Py_XDECREF(address);
    Py_XDECREF(callback);
    return reference;
}

/* trace_function(function, record, code=function.__code__): trace a function that has, or gets, some
   code. Return False if there is no tool id for it. */
static PyObject *
trace_function(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *record, *code = NULL;
    if (!PyArg_ParseTuple(args, "O!O!|O!", &PyFunction_Type, &function, record_type, &record,
                          &PyCode_Type, &code))
        return NULL;
    if (code == NULL)
        code = PyFunction_GET_CODE(function);
    int taken = take_tool();
    if (taken <= 0)
        return taken < 0 ? NULL : Py_NewRef(Py_False);
    Py_INCREF(code);
    PyObject *reference = reference_to(function);
    Traced *traced = NULL;
    if (reference != NULL && (traced = traced_of(code)) == NULL)
        traced = new_traced(code);
    int status = -1;
    if (traced != NULL && insert_entry(traced, function, reference, (Record *)record) == 0)
        status = tidy(code) < 0 ? -1 : set_global_events();
    Py_XDECREF(reference);
    Py_DECREF(code);
    return status < 0 ? NULL : Py_NewRef(Py_True);
}

/* records_of(function): return the records that trace a function. */
static PyObject *
records_of(PyObject *Py_UNUSED(module), PyObject *function)
{
    PyObject *found = PyList_New(0);
    Traced *traced = PyFunction_Check(function) ? traced_of(PyFunction_GET_CODE(function)) : NULL;
    for (Py_ssize_t i = traced == NULL ? 0 : find_entry(traced, function);
         found != NULL && traced != NULL && i < traced->count; i++) {
        Entry *entry = &traced->entries[i];
        if (entry->function != function)
            break;
        if (!entry->record->is_ending && PyList_Append(found, (PyObject *)entry->record) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* record_of(function, within): return the record for just these calls of a function, or None. */
static PyObject *
record_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *within;
    if (!PyArg_ParseTuple(args, "O!O", &PyFunction_Type, &function, &within))
        return NULL;
    Traced *traced = traced_of(PyFunction_GET_CODE(function));
    Py_ssize_t i = traced == NULL ? 0 : find_entry(traced, function);
    for (; traced != NULL && i < traced->count && traced->entries[i].function == function; i++) {
        Record *record = traced->entries[i].record;
        PyObject *own = record->within == NULL ? Py_None : (PyObject *)record->within;
        if (!record->is_ending && own == within)
            return Py_NewRef((PyObject *)record);
    }
    Py_RETURN_NONE;
}

/* watch_code(on_new_code): call a function before the code of a traced function is set. */
static PyObject *
watch_code(PyObject *Py_UNUSED(module), PyObject *callback)
{
    Py_XSETREF(on_new_code, Py_NewRef(callback));
    Py_RETURN_NONE;
}

/* tidy_code(code): look again at the events of a code object, as a record of it is ending. */
static PyObject *
tidy_code(PyObject *Py_UNUSED(module), PyObject *code)
{
    if (!PyCode_Check(code))
        return PyErr_Format(PyExc_TypeError, "it takes a code object, not %R", code), NULL;
    return tidy(code) < 0 || set_global_events() < 0 ? NULL : Py_NewRef(Py_None);
}

/* switch_events(): set the events of all code objects, as a trace function was set or cleared. */
static PyObject *
switch_events(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return tidy_all() < 0 || set_global_events() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
traced_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(entry_count);
}

static PyMethodDef functions[] = {
    {"trace_function", trace_function, METH_VARARGS, "Trace a function with a record."},
    {"record_of", record_of, METH_VARARGS, "Return the record that traces a function, or None."},
    {"records_of", records_of, METH_O, "Return the records that trace a function."},
    {"watch_code", watch_code, METH_O, "Call a function before the code of a traced one is set."},
    {"tidy_code", tidy_code, METH_O, "Set the events that a code object needs now."},
    {"switch_events", switch_events, METH_NOARGS, "Set the events that all code objects need now."},
    {"traced_count", traced_count, METH_NOARGS, "Return how many functions are traced."},
    {NULL, NULL, 0, NULL},
};

int
add_monitoring(PyObject *module)
{
    PyObject *values = NULL;
    monitoring = Py_XNewRef(PySys_GetObject("monitoring"));
    if (monitoring == NULL) /* another implementation */
        return 0;
    if ((values = PyObject_GetAttrString(monitoring, "events")) == NULL)
        return -1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(events); i++) {
        PyObject *value = PyObject_GetAttrString(values, events[i].name);
        events[i].value = value == NULL ? -1 : PyLong_AsLong(value);
        Py_XDECREF(value);
    }
    Py_DECREF(values);
    extra_index = PyUnstable_Eval_RequestCodeExtraIndex(free_traced);
    if (PyErr_Occurred() || extra_index < 0)
        return PyErr_Occurred() ? -1 : 0;
    return add_type(module, &callback_spec, &callback_type) < 0
               ? -1
               : PyModule_AddFunctions(module, functions);
}

#endif
