/* Signals: a byte for a thread before SIGTERM ends the process.

   Python runs its signal handlers between two steps of the main thread, which may be in C code that
   does not return, or just about to wait. This handler writes to a socket at once, wherever the
   process is, and the system goes on with what it interrupted. A thread reads the socket, does what
   is left to do, and lets the signal have its default action. A handler that the program sets takes
   the place of this one. In a child the signal has its default action until the child watches for
   itself, also if C code has forked it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_segments.h"

#if HAVE_SEGMENTS

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#define FIRST_PROCESS 1 /* of a container: Linux does not end it by a signal without a handler */

static volatile pid_t watching;    /* the process that watches */
static volatile int descriptor;    /* of the socket that gets a byte */
static struct stat the_socket;     /* which it is, as programs close descriptors and use them again */
static volatile double limit;      /* seconds that the thread has */
static volatile double until = -1; /* when it has had them; below 0 before the signal */

static double
monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void
set_handler(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
}

/* In a handler, the signal comes once that has returned. */
static void
act_by_default(void)
{
    set_handler(SIG_DFL);
    kill(getpid(), SIGTERM);
}

static int
report(void)
{
    struct stat now;
    return fstat(descriptor, &now) == 0 && now.st_dev == the_socket.st_dev &&
           now.st_ino == the_socket.st_ino &&
           send(descriptor, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* Calls the system only, and nothing that is not safe in a signal handler. */
static void
on_sigterm(int Py_UNUSED(number))
{
    int saved = errno;
    double now = monotonic_seconds();
    if (getpid() != watching || (until >= 0 && now > until))
        act_by_default();
    else if (until < 0) {
        until = now + limit;
        if (!report())
            act_by_default();
    }
    errno = saved;
}

static int
handles_sigterm(void (*handler)(int))
{
    struct sigaction now;
    return sigaction(SIGTERM, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
           now.sa_handler == handler;
}

static PyObject *
is_sigterm_free(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(handles_sigterm(SIG_DFL) || handles_sigterm(on_sigterm));
}

static PyObject *
watch_sigterm(PyObject *Py_UNUSED(module), PyObject *args)
{
    int socket;
    double seconds;
    if (!PyArg_ParseTuple(args, "id:watch_sigterm", &socket, &seconds))
        return NULL;
    watching = 0; /* meanwhile the signal has its default action */
    if (fstat(socket, &the_socket) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    descriptor = socket;
    limit = seconds;
    until = -1;
    watching = getpid();
    set_handler(on_sigterm);
    Py_RETURN_NONE;
}

static PyObject *
unwatch_sigterm(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (handles_sigterm(on_sigterm))
        set_handler(SIG_DFL);
    Py_RETURN_NONE;
}

static PyObject *
end_by_sigterm(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (handles_sigterm(on_sigterm))
        act_by_default();
    else
        kill(getpid(), SIGTERM); /* for the handler that the program has set meanwhile */
    if (getpid() == FIRST_PROCESS && handles_sigterm(SIG_DFL)) {
        until = -1;
        set_handler(on_sigterm);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"is_sigterm_free", is_sigterm_free, METH_NOARGS,
     "Whether SIGTERM has its default action, or is watched."},
    {"watch_sigterm", watch_sigterm, METH_VARARGS,
     "watch_sigterm(socket, seconds): send a byte when SIGTERM comes."},
    {"unwatch_sigterm", unwatch_sigterm, METH_NOARGS, "Let SIGTERM end the process at once again."},
    {"end_by_sigterm", end_by_sigterm, METH_NOARGS, "Let SIGTERM end the process now."},
    {NULL, NULL, 0, NULL},
};

int
add_signals(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}

#endif
