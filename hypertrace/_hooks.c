/* Engine that traces Python functions where they are, by rewritten bytecode: CPython 3.11 only.

   A function that is traced has other code: what _bytecode.c makes of it, with Hooks as the
   record. The hooks know the code as it was, and the records of the function: one, or one for each
   class that inherits it and is traced. They belong to one function; others with the same code, such
   as copies, are not traced by them. All of it is freed with the function.

   While no trace function is set, a hook returns at once. */

#define PY_SSIZE_T_CLEAN
#include "_open_calls.h"
#include "_speedups.h"

#if HAVE_BYTECODE

typedef struct {
    PyObject_HEAD
    PyObject *function;  /* weak; NULL in a copy, as a pickled one is */
    PyObject *rewritten; /* weak: the code that has the hooks; others may be derived from it */
    PyObject *code;      /* as it was */
    PyObject *records;  /* a tuple, or NULL for none */
} Hooks;

static PyTypeObject *hooks_type;
static Py_ssize_t hooked; /* with each record of them */

static Py_ssize_t
size_of(PyObject *records)
{
    return records == NULL ? 0 : PyTuple_GET_SIZE(records);
}

static void
set_records(Hooks *self, PyObject *records)
{
    PyObject *before = self->records;
    hooked += size_of(records) - size_of(before);
    self->records = records;
    Py_XDECREF(before);
}

/* Return the hooks in rewritten code, borrowed; NULL if it is not rewritten. */
static Hooks *
hooks_in(PyObject *code)
{
    PyObject *constants = ((PyCodeObject *)code)->co_consts;
    Py_ssize_t count = PyTuple_GET_SIZE(constants);
    PyObject *last = count == 0 ? NULL : PyTuple_GET_ITEM(constants, count - 1);
    return last != NULL && Py_IS_TYPE(last, hooks_type) ? (Hooks *)last : NULL;
}

static inline int
refers_to(PyObject *weak, PyObject *object)
{
    return weak != NULL && PyWeakref_GET_OBJECT(weak) == object;
}

/* ---- Hooks ----------------------------------------------------------------------------------- */

static inline PyThreadState *
begin(void)
{
    PyThreadState *thread = PyThreadState_Get();
    give_room(thread, ROOM);
    return thread;
}

static inline int
finish(PyThreadState *thread, int status)
{
    give_room(thread, -ROOM);
    return status;
}

static inline PyObject *
finish_operator(PyThreadState *thread, int status)
{
    return finish(thread, status) < 0 ? NULL : Py_NewRef(Py_None);
}

static int
open_first(Hooks *self, PyThreadState *thread)
{
    Frame *frame = current_frame(thread);
    if (!refers_to(self->function, frame_function(frame)))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->records); i++) {
        Record *record = (Record *)PyTuple_GET_ITEM(self->records, i);
        if (!record->is_ending && is_within(record, frame))
            return open_call(record, thread, frame);
    }
    return 0;
}

/* The operator `+hooks`. */
static PyObject *
start(PyObject *object)
{
    Hooks *self = (Hooks *)object;
    if (self->records == NULL || !is_tracing_on())
        Py_RETURN_NONE;
    PyThreadState *thread = begin();
    return finish_operator(thread, open_first(self, thread));
}

/* The operator `del hooks[result]`. */
static int
end(PyObject *Py_UNUSED(self), PyObject *result, PyObject *value)
{
    if (value != NULL) {
        PyErr_SetString(PyExc_TypeError, "hooks have no items");
        return -1;
    }
    PyThreadState *thread = begin();
    return finish(thread, end_call(current_frame(thread), result, Py_None));
}

/* The operator `-hooks`. */
static PyObject *
out(PyObject *Py_UNUSED(self))
{
    PyThreadState *thread = begin();
    return finish_operator(thread, step_out(current_frame(thread)));
}

/* The operator `~hooks`. */
static PyObject *
in(PyObject *Py_UNUSED(self))
{
    PyThreadState *thread = begin();
    return finish_operator(thread, step_in(thread, current_frame(thread)));
}

/* The operator `hooks[error]`. */
static PyObject *
thrown(PyObject *Py_UNUSED(self), PyObject *error)
{
    PyThreadState *thread = begin();
    Frame *frame = current_frame(thread);
    int status = step_in(thread, frame);
    if (PyErr_GivenExceptionMatches(error, PyExc_GeneratorExit))
        expect_close(frame);
    return finish_operator(thread, status);
}

/* Return what the interpreter makes of an exception that leaves a generator, if it may not. A new
   reference; NULL without memory. */
static PyObject *
outside_generator(PyCodeObject *code, PyObject *error)
{
    int is_asynchronous = (code->co_flags & CO_ASYNC_GENERATOR) != 0;
    const char *kind = is_asynchronous                    ? "async generator"
                       : code->co_flags & CO_COROUTINE    ? "coroutine"
                       : code->co_flags & CO_GENERATOR    ? "generator"
                                                          : NULL;
    const char *name = PyErr_GivenExceptionMatches(error, PyExc_StopIteration) ? "StopIteration"
                       : is_asynchronous && PyErr_GivenExceptionMatches(error, PyExc_StopAsyncIteration)
                           ? "StopAsyncIteration"
                           : NULL;
    if (kind == NULL || name == NULL)
        return Py_NewRef(error);
    PyObject *message = PyUnicode_FromFormat("%s raised %s", kind, name);
    PyObject *made = message == NULL ? NULL : PyObject_CallOneArg(PyExc_RuntimeError, message);
    Py_XDECREF(message);
    if (made != NULL)
        PyException_SetCause(made, Py_NewRef(error));
    return made;
}

/* The operator `error in hooks`. */
static int
fail(PyObject *Py_UNUSED(self), PyObject *error)
{
    PyThreadState *thread = begin();
    Frame *frame = current_frame(thread);
    PyObject *outside = outside_generator(frame_code(frame), error);
    int status = outside == NULL ? -1 : end_call(frame, NULL, outside);
    Py_XDECREF(outside);
    return finish(thread, status);
}

static void
hooks_dealloc(PyObject *object)
{
    Hooks *self = (Hooks *)object;
    PyTypeObject *type = Py_TYPE(object);
    set_records(self, NULL);
    Py_XDECREF(self->function);
    Py_XDECREF(self->rewritten);
    Py_XDECREF(self->code);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Code that is pickled by its parts, and loaded elsewhere, is not traced there. */
static PyObject *
hooks_reduce(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("O()", Py_TYPE(object));
}

static PyMethodDef hooks_methods[] = {
    {"__reduce__", hooks_reduce, METH_NOARGS, "Pickle them as hooks that do nothing."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hooks_slots[] = {
    {Py_tp_doc, "What rewritten code runs, and what it was before."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, hooks_dealloc},
    {Py_tp_methods, hooks_methods},
    {Py_nb_positive, start},
    {Py_mp_ass_subscript, end},
    {Py_nb_negative, out},
    {Py_nb_invert, in},
    {Py_mp_subscript, thrown},
    {Py_sq_contains, fail},
    {0, NULL},
};

static PyType_Spec hooks_spec = {
    .name = "hypertrace._speedups.Hooks",
    .basicsize = sizeof(Hooks),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hooks_slots,
};

/* ---- Functions of the module ----------------------------------------------------------------- */

/* Give a function rewritten code. Return the hooks in it, borrowed; NULL with an exception. */
static Hooks *
rewrite_function(PyObject *function)
{
    PyObject *code = PyFunction_GET_CODE(function);
    Hooks *others = hooks_in(code), *self = (Hooks *)PyType_GenericAlloc(hooks_type, 0);
    if (self == NULL)
        return NULL;
    /* A copy of another function that is traced has its code. */
    int is_copy = others != NULL && refers_to(others->rewritten, code);
    self->code = Py_NewRef(is_copy ? others->code : code);
    self->function = PyWeakref_NewRef(function, NULL);
    PyObject *rewritten =
        self->function == NULL ? NULL : rewrite_code(self->code, (PyObject *)self);
    if (rewritten != NULL)
        self->rewritten = PyWeakref_NewRef(rewritten, NULL);
    int status = self->rewritten == NULL
                     ? -1
                     : PyObject_SetAttrString(function, "__code__", rewritten);
    Py_XDECREF(rewritten);
    Py_DECREF(self); /* the code of the function has it */
    return status < 0 ? NULL : self;
}

/* Return the hooks of a function, borrowed; NULL if it is not traced. */
static Hooks *
hooks_of(PyObject *function)
{
    Hooks *hooks = hooks_in(PyFunction_GET_CODE(function));
    return hooks != NULL && refers_to(hooks->function, function) ? hooks : NULL;
}

/* trace_function(function, record): trace a function. Return False if its bytecode is not what the compiler
   makes. */
static PyObject *
trace_function(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *record;
    if (!PyArg_ParseTuple(args, "O!O!", &PyFunction_Type, &function, record_type, &record))
        return NULL;
    Hooks *hooks = hooks_of(function);
    if (hooks == NULL)
        hooks = rewrite_function(function);
    if (hooks == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError))
            return NULL;
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    Py_ssize_t count = size_of(hooks->records);
    PyObject *records = PyTuple_New(count + 1);
    if (records == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(records, i, Py_NewRef(PyTuple_GET_ITEM(hooks->records, i)));
    PyTuple_SET_ITEM(records, count, Py_NewRef(record));
    set_records(hooks, records);
    Py_RETURN_TRUE;
}

/* record_of(function, within): return the record for just these calls of a function, or None. */
static PyObject *
record_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *within;
    if (!PyArg_ParseTuple(args, "O!O", &PyFunction_Type, &function, &within))
        return NULL;
    Hooks *hooks = hooks_of(function);
    for (Py_ssize_t i = 0; hooks != NULL && i < size_of(hooks->records); i++) {
        Record *record = (Record *)PyTuple_GET_ITEM(hooks->records, i);
        PyObject *own = record->within == NULL ? Py_None : (PyObject *)record->within;
        if (!record->is_ending && own == within)
            return Py_NewRef((PyObject *)record);
    }
    Py_RETURN_NONE;
}

/* Drop the records that are ending. Without others, the function gets its code back. Calls that run
   still end. */
static int
tidy(Hooks *self)
{
    PyObject *left = PyList_New(0), *records = NULL;
    for (Py_ssize_t i = 0; left != NULL && i < size_of(self->records); i++) {
        PyObject *record = PyTuple_GET_ITEM(self->records, i);
        if (!((Record *)record)->is_ending && PyList_Append(left, record) < 0)
            Py_CLEAR(left);
    }
    if (left == NULL || (PyList_GET_SIZE(left) > 0 && (records = PyList_AsTuple(left)) == NULL)) {
        Py_XDECREF(left);
        return -1;
    }
    Py_DECREF(left);
    set_records(self, records);
    PyObject *function = PyWeakref_GET_OBJECT(self->function);
    if (records != NULL || !PyFunction_Check(function) ||
        !refers_to(self->rewritten, PyFunction_GET_CODE(function)))
        return 0;
    Py_INCREF(function);
    int status = PyObject_SetAttrString(function, "__code__", self->code);
    Py_DECREF(function);
    return status;
}

/* tidy_code(code): look again at the function of this code, as a record of it is ending. It keeps code
   that others have given it, or made of its rewritten one. */
static PyObject *
tidy_code(PyObject *Py_UNUSED(module), PyObject *code)
{
    if (!PyCode_Check(code))
        return PyErr_Format(PyExc_TypeError, "it takes a code object, not %R", code), NULL;
    Hooks *hooks = hooks_in(code);
    if (hooks == NULL || hooks->function == NULL)
        Py_RETURN_NONE;
    Py_INCREF(hooks);
    int status = tidy(hooks);
    Py_DECREF(hooks);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
traced_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(hooked);
}

static PyMethodDef functions[] = {
    {"trace_function", trace_function, METH_VARARGS, "Trace a function with a record."},
    {"record_of", record_of, METH_VARARGS, "Return the record that traces a function, or None."},
    {"tidy_code", tidy_code, METH_O, "Drop the records of a function that are ending."},
    {"traced_count", traced_count, METH_NOARGS, "Return how many functions are traced."},
    {NULL, NULL, 0, NULL},
};

int
add_hooks(PyObject *module)
{
    return add_type(module, &hooks_spec, &hooks_type) < 0 ? -1
                                                          : PyModule_AddFunctions(module, functions);
}

#endif
