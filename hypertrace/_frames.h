/* Frames of the interpreter: the function that runs in one, and its local variables.

   PyEval_GetFrame() would make a frame object, which costs as much as all the rest. The internal
   headers of one minor version do not change once it is released. */

#ifndef HYPERTRACE_FRAMES_H
#define HYPERTRACE_FRAMES_H

#include <Python.h>

/* Their inline functions are not written for as many warnings as ours. */
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#endif
#define Py_BUILD_CORE 1
#include <internal/pycore_code.h>
#if PY_VERSION_HEX < 0x030E0000
#include <internal/pycore_frame.h>
#else
#include <internal/pycore_interpframe.h>
#endif
#undef Py_BUILD_CORE
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

typedef struct _PyInterpreterFrame Frame;

/* The frame that the calling Python code runs in. */
static inline Frame *
current_frame(PyThreadState *thread)
{
#if PY_VERSION_HEX < 0x030D0000
    return thread->cframe->current_frame;
#else
    return thread->current_frame;
#endif
}

/* The function that runs in a frame, borrowed. */
static inline PyObject *
frame_function(Frame *frame)
{
#if PY_VERSION_HEX < 0x030C0000
    return (PyObject *)frame->f_func;
#elif PY_VERSION_HEX < 0x030E0000
    return (PyObject *)frame->f_funcobj;
#else
    return PyStackRef_AsPyObjectBorrow(frame->f_funcobj);
#endif
}

/* The code that runs in a frame, borrowed; the function may have other code by now. */
static inline PyCodeObject *
frame_code(Frame *frame)
{
#if PY_VERSION_HEX < 0x030D0000
    return frame->f_code;
#elif PY_VERSION_HEX < 0x030E0000
    return (PyCodeObject *)frame->f_executable;
#else
    return (PyCodeObject *)PyStackRef_AsPyObjectBorrow(frame->f_executable);
#endif
}

/* A local variable, borrowed; NULL if it is not set. */
static inline PyObject *
frame_local(Frame *frame, int index)
{
#if PY_VERSION_HEX < 0x030E0000
    return frame->localsplus[index];
#else
    _PyStackRef local = frame->localsplus[index];
    return PyStackRef_IsNull(local) ? NULL : PyStackRef_AsPyObjectBorrow(local);
#endif
}

/* Tracing has its own frames beyond the recursion limit, so that the application recurses as deep as
   without, and a call at the limit is counted. */
#define ROOM 250

static inline void
give_room(PyThreadState *thread, int frames)
{
#if PY_VERSION_HEX < 0x030C0000
    thread->recursion_remaining += frames;
#else
    thread->py_recursion_remaining += frames;
#if PY_VERSION_HEX < 0x030E0000 /* later, what counts is the room on the C stack */
    thread->c_recursion_remaining += frames / 4;
#endif
#endif
}

#endif
