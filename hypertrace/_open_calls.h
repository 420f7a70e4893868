/* Open calls of traced functions: what the engines that trace them share. */

#ifndef HYPERTRACE_OPEN_CALLS_H
#define HYPERTRACE_OPEN_CALLS_H

#include "_frames.h"
#include "_segments.h"

/* A kind of class whose objects are the first arguments of a traced function. */
typedef struct {
    PyTypeObject *type; /* borrowed: classes that are freed end the generation */
    PyObject *tracer;   /* for objects that hold none; NULL: the tracer of the function */
    int is_plain;       /* whether reading their attributes runs no code of the class */
} KnownClass;

/* One traced function; or, with `within`, its calls for the objects of one class. */
typedef struct {
    PyObject_HEAD
    PyObject *calls;        /* a TracedCalls */
    PyObject *moved_to;     /* the record after it and its code, for the Python code; or NULL */
    PyObject *own_tracer;   /* for calls without an object */
    PyObject *id;           /* exact str, or NULL */
    PyTypeObject *within;   /* or NULL */
    Py_ssize_t address;     /* of the entries in tables of recorders */
    Py_ssize_t open;        /* calls that have not ended */
    Py_ssize_t holders;     /* for the Python code */
    Py_ssize_t generation;  /* of the known classes */
    int known_count;        /* a power of two, or 0 */
    KnownClass *known;
    int positional, keyword, first; /* numbers of parameters; the local variable of the first argument */
    char has_varargs, has_varkw;
    char is_stepped, is_plain, has_self, needs_result, needs_call;
    char is_ending;         /* no call starts any more */
} Record;

extern INTERNAL PyTypeObject *record_type;

/* Open a call in a frame. Return -1 with an exception if the application is to see one. */
INTERNAL int open_call(Record *record, PyThreadState *thread, Frame *frame);

/* Start and end a step of a call that runs in steps. */
INTERNAL int step_in(PyThreadState *thread, Frame *frame);
INTERNAL int step_out(Frame *frame);

/* Note that the generator of a frame is being closed: if it yields nevertheless, it may be freed
   without another event. */
INTERNAL void expect_close(Frame *frame);

/* End the call in a frame, if one is open there, with a result or an exception. */
INTERNAL int end_call(Frame *frame, PyObject *result, PyObject *error);

/* Whether calls of a record in this frame are those that it traces. */
INTERNAL int is_within(Record *record, Frame *frame);

/* Add the types and functions to the module. */
INTERNAL int add_open_calls(PyObject *module);

#if HAVE_BYTECODE
/* Add the functions of the engine that rewrites bytecode. */
INTERNAL int add_hooks(PyObject *module);
#endif

#if PY_VERSION_HEX >= 0x030C0000
/* Add the functions of the engine that uses sys.monitoring. */
INTERNAL int add_monitoring(PyObject *module);
#endif

#endif
