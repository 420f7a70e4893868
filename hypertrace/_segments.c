/* Segments: the cells of this process in a file that other processes read.

   A segment reserves addresses once. Its file is mapped there in chunks, so a cell is an address for
   ever. In a child of a fork, also of one by C, another file is mapped over the same addresses: cells
   that are bound to recorders count in it, from zero.

   The lock of a file says that its process lives. It belongs to the open file, which the mapping
   keeps open: a program that closes all its descriptors, as daemons do, keeps it. A child would keep
   it, too; so the handler of forks maps memory over everything first.

   Functions marked "in a child" run between fork() and its return, where other threads may have held
   any lock: they call the system only, allocate nothing and know no Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_segments.h"

#if HAVE_SEGMENTS

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <sys/random.h>
#endif

/* ---- Differences between systems ------------------------------------------------------------- */

#ifndef O_PATH
#define O_PATH O_RDONLY
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef GRND_NONBLOCK
#define GRND_NONBLOCK 1
#endif

#define TRIES 1000 /* of a call that signals interrupt */

/* Return a random number. In a child. */
static uint64_t
random_number(void)
{
    uint64_t number = 0;
    struct timespec now;
#if defined(__linux__) && defined(SYS_getrandom)
    if (syscall(SYS_getrandom, &number, sizeof number, GRND_NONBLOCK) == (long)sizeof number)
        return number;
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__)
    if (getentropy(&number, sizeof number) == 0)
        return number;
#endif
    clock_gettime(CLOCK_REALTIME, &now); /* the file is made only if there is none of that name */
    return ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) * 0x9E3779B97F4A7C15u;
}

/* Return when this process began, in the system's clock ticks; 0 if it is not known. In a child. */
static uint64_t
start_of_process(void)
{
    uint64_t ticks = 0;
#ifdef __linux__
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (size <= 0)
        return 0;
    text[size] = 0;
    const char *at = strrchr(text, ')'); /* the name of the program may hold anything */
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    for (at = at == NULL ? "" : at + 1; *at >= '0' && *at <= '9'; at++)
        ticks = 10 * ticks + (uint64_t)(*at - '0');
#endif
    return ticks;
}

/* Make the blocks of a file up to a size exist: writing to a mapping of blocks that do not, on a full
   disk, ends the process. Return an errno, 0 for success. In a child. */
static int
allocate(int file, off_t offset, off_t size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (rlim_t)(offset + size) > limit.rlim_cur)
        return EFBIG; /* the system would send SIGXFSZ, too */
#ifdef __APPLE__
    fstore_t wanted = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, size, 0};
    return fcntl(file, F_PREALLOCATE, &wanted) < 0 || ftruncate(file, offset + size) < 0 ? errno : 0;
#elif defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
    int error = EINTR;
    for (int i = 0; i < TRIES && error == EINTR; i++)
        error = posix_fallocate(file, offset, size);
    return error;
#else
    return ftruncate(file, offset + size) < 0 ? errno : 0;
#endif
}

/* Leave the standard streams' descriptors to the application, which may have closed them and expect
   them from its next open(). In a child. */
static int
above_streams(int file)
{
    if (file < 0 || file > 2)
        return file;
    int moved = fcntl(file, F_DUPFD_CLOEXEC, 3), error = errno;
    close(file);
    errno = error;
    return moved;
}

/* Write all of a buffer. In a child. */
static int
write_at(int file, const char *data, size_t size, off_t offset)
{
    while (size > 0) {
        ssize_t written = pwrite(file, data, size, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        data += written;
        size -= (size_t)written;
        offset += written;
    }
    return 0;
}

/* ---- Segment --------------------------------------------------------------------------------- */

#define MAGIC "HTWORKR1"
#define VERSION 1
#define HEAD 4096
#define CHUNK 16384
#define RESERVE (256 << 20)
#define LEAST_RESERVE (16 << 20)
#define NAME 64

typedef struct {
    char magic[8];
    uint64_t version, pid, start, worker;
} Head;

typedef enum {
    IN_FILE,
    LOST,     /* a fork could not make a file */
    DETACHED, /* on request */
} Where;

/* A descriptor, and which file it is of: the application may close it and use its number again. */
typedef struct {
    int number; /* -1: none */
    dev_t device;
    ino_t inode;
} File;

typedef struct Segment {
    PyObject_HEAD
    struct Segment *next; /* of the living */
    char *base;           /* of the reserved addresses; the file's first byte */
    size_t reserved, mapped, chunk; /* bytes */
    char *path;           /* of the directory */
    File directory, file;
    Where where;
    int error;            /* why it is lost */
    char name[NAME];
} Segment;

static Segment *living; /* read in a child at any moment: each change is one store */
static uint64_t fork_count;
static PyTypeObject *segment_type, *cell_type;

/* In a child. */
static int
identify(int number, File *file)
{
    struct stat found;
    if (number < 0 || fstat(number, &found) < 0)
        return -1;
    *file = (File){number, found.st_dev, found.st_ino};
    return 0;
}

/* In a child. */
static int
is_same(const File *one, const File *other)
{
    return one->device == other->device && one->inode == other->inode;
}

/* Whether a descriptor is still of its file. In a child. */
static int
is_own(const File *file)
{
    File found;
    return identify(file->number, &found) == 0 && is_same(file, &found);
}

/* In a child. */
static void
close_own(File *file)
{
    if (is_own(file))
        close(file->number);
    file->number = -1;
}

/* Open a file again whose descriptor the application closed. Return -1 with errno if it is gone. In a
   child. */
static int
reopen(File *file, int directory, const char *name, int flags)
{
    File found = {.number = -1};
    if (is_own(file))
        return file->number;
    file->number = -1;
    int number = above_streams(openat(directory, name, flags | O_CLOEXEC));
    if (number < 0)
        return -1;
    if (identify(number, &found) < 0 || !is_same(file, &found)) {
        close(number);
        errno = ENOENT;
        return -1;
    }
    return file->number = number;
}

/* In a child. */
static int
directory_of(Segment *self)
{
    return reopen(&self->directory, AT_FDCWD, self->path, O_PATH | O_DIRECTORY);
}

/* In a child. */
static int
file_of(Segment *self)
{
    if (is_own(&self->file))
        return self->file.number;
    int directory = directory_of(self);
    return directory < 0 ? -1 : reopen(&self->file, directory, self->name, O_RDWR | O_NOFOLLOW);
}

/* In a child. */
static Head
head_of_process(void)
{
    Head head = {.version = VERSION, .pid = (uint64_t)getpid(), .start = start_of_process()};
    memcpy(head.magic, MAGIC, sizeof head.magic);
    return head;
}

/* Write a name for a hidden file: `.w-`, the process id, `-` and 16 random digits. In a child. */
static void
write_name(char *name)
{
    char digits[24];
    int count = 0;
    for (uint64_t pid = (uint64_t)getpid(); pid > 0 || count == 0; pid /= 10)
        digits[count++] = (char)('0' + pid % 10);
    memcpy(name, ".w-", 3);
    name += 3;
    while (count > 0)
        *name++ = digits[--count];
    *name++ = '-';
    uint64_t number = random_number();
    for (int shift = 60; shift >= 0; shift -= 4)
        *name++ = "0123456789abcdef"[number >> shift & 15];
    *name = 0;
}

/* Make a file that is locked and has a head, under a hidden name. Return -1 with errno, and no file,
   if that fails. In a child. */
static int
make_file(int directory, char *hidden, size_t size, File *made)
{
    write_name(hidden);
    int file = above_streams(openat(directory, hidden,
                                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file < 0)
        return -1;
    Head head = head_of_process();
    int error = flock(file, LOCK_EX | LOCK_NB) < 0 ? errno : allocate(file, 0, (off_t)size);
    if (error == 0 && (write_at(file, (char *)&head, sizeof head, 0) < 0 || identify(file, made) < 0))
        error = errno;
    if (error == 0)
        return file;
    unlinkat(directory, hidden, 0);
    close(file);
    errno = error;
    return -1;
}

/* Map a part of a file, or zeroed memory, over the addresses. Return -1 with errno. In a child. */
static int
map_over(Segment *self, size_t from, size_t to, int file)
{
    int flags = MAP_FIXED | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *mapped = mmap(self->base + from, to - from, PROT_READ | PROT_WRITE, flags, file,
                        file < 0 ? 0 : (off_t)from);
    return mapped == MAP_FAILED ? -1 : 0;
}

/* Let go of the file of the parent: its lock must not be held here. In a child. */
static void
leave_file(Segment *self)
{
    Head head = head_of_process();
    size_t rest = self->reserved - self->mapped; /* a thread of the parent may be mapping a chunk */
    if (map_over(self, 0, self->mapped, -1) == 0)
        memcpy(self->base, &head, sizeof head);
    if (rest > 0)
        mmap(self->base + self->mapped, rest, PROT_NONE,
             MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    close_own(&self->file);
    self->name[0] = 0;
}

/* Make a file, map it over memory that holds no counts, and show it. Return -1 with errno, and memory
   as it was, if that fails. In a child. */
static int
take_file(Segment *self)
{
    char hidden[NAME];
    File made = {.number = -1};
    int directory = directory_of(self);
    int file = directory < 0 ? -1 : make_file(directory, hidden, self->mapped, &made);
    if (file < 0)
        return -1;
    if (map_over(self, 0, self->mapped, file) == 0) {
        if (renameat(directory, hidden, directory, hidden + 1) == 0) {
            self->file = made;
            strcpy(self->name, hidden + 1);
            return 0;
        }
        int error = errno;
        Head head = head_of_process();
        if (map_over(self, 0, self->mapped, -1) == 0)
            memcpy(self->base, &head, sizeof head);
        errno = error;
    }
    int error = errno;
    unlinkat(directory, hidden, 0);
    close(file);
    errno = error;
    return -1;
}

/* The handler of forks. */
static void
after_fork_in_child(void)
{
    int before = errno;
    fork_count++;
    for (Segment *each = living; each != NULL; each = each->next)
        leave_file(each);
    for (Segment *each = living; each != NULL; each = each->next)
        if (each->where != DETACHED) {
            each->error = take_file(each) < 0 ? errno : 0;
            each->where = each->error ? LOST : IN_FILE;
        }
    errno = before;
}

static PyObject *
os_error(Segment *self)
{
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, self->path);
}

static int
open_directory(const char *path, File *directory)
{
    int number = above_streams(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (number >= 0 && identify(number, directory) < 0) {
        int error = errno;
        close(number);
        errno = error;
        return -1;
    }
    return number < 0 ? -1 : 0;
}

/* The list is whole at any moment, since a fork may come at any. */
static void
list_segment(Segment *self)
{
    Py_BEGIN_CRITICAL_SECTION(segment_type);
    self->next = living;
    __atomic_store_n(&living, self, __ATOMIC_RELEASE);
    Py_END_CRITICAL_SECTION();
}

static void
unlist_segment(Segment *self)
{
    Py_BEGIN_CRITICAL_SECTION(segment_type);
    for (Segment **each = &living; *each != NULL; each = &(*each)->next)
        if (*each == self) {
            __atomic_store_n(each, self->next, __ATOMIC_RELEASE);
            break;
        }
    Py_END_CRITICAL_SECTION();
}

static char *
reserve_addresses(size_t *size)
{
    for (;; *size /= 2) {
        char *base = mmap(NULL, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base != MAP_FAILED || *size / 2 < LEAST_RESERVE)
            return base == MAP_FAILED ? NULL : base;
    }
}

static char *
copy_of(const char *text)
{
    char *copy = PyMem_Malloc(strlen(text) + 1);
    return copy == NULL ? (char *)PyErr_NoMemory() : strcpy(copy, text);
}

static size_t
rounded_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

/* Reserve, make the file and map its first chunk. */
static int
open_segment(Segment *self, size_t size)
{
    long page = sysconf(_SC_PAGESIZE);
    self->chunk = rounded_up(CHUNK, page > 0 ? (size_t)page : HEAD);
    self->reserved = rounded_up(size, self->chunk);
    self->base = reserve_addresses(&self->reserved);
    if (self->base == NULL || open_directory(self->path, &self->directory) < 0)
        return -1;
    self->mapped = self->chunk;
    return map_over(self, 0, self->mapped, -1) < 0 ? -1 : take_file(self);
}

static PyObject *
segment_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"directory", "reserve", NULL};
    PyObject *path;
    Py_ssize_t size = RESERVE;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|n:Segment", names, PyUnicode_FSConverter,
                                     &path, &size))
        return NULL;
    if (size <= 0) {
        Py_DECREF(path);
        return PyErr_Format(PyExc_ValueError, "reserve must be a number of bytes, not %zd", size);
    }
    Segment *self = (Segment *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->directory.number = self->file.number = -1;
        self->path = copy_of(PyBytes_AS_STRING(path));
        if (self->path == NULL || (open_segment(self, (size_t)size) < 0 && os_error(self) == NULL))
            Py_CLEAR(self);
    }
    Py_DECREF(path);
    if (self != NULL)
        list_segment(self);
    return (PyObject *)self;
}

static void
segment_dealloc(PyObject *object)
{
    Segment *self = (Segment *)object;
    PyTypeObject *type = Py_TYPE(object);
    unlist_segment(self);
    if (self->base != NULL)
        munmap(self->base, self->reserved);
    close_own(&self->file);
    close_own(&self->directory);
    PyMem_Free(self->path);
    type->tp_free(object);
    Py_DECREF(type);
}

static size_t
cells_of(const Segment *self)
{
    return (self->mapped - HEAD) / sizeof(uint64_t);
}

/* Make and map chunks up to a size. Return -1 with errno. */
static int
extend(Segment *self, size_t size)
{
    int file = -1;
    if (self->where == IN_FILE) {
        if ((file = file_of(self)) < 0)
            return -1;
        int error = allocate(file, (off_t)self->mapped, (off_t)(size - self->mapped));
        if (error != 0)
            return errno = error, -1;
    }
    if (map_over(self, self->mapped, size, file) < 0)
        return -1; /* the file is larger than what is used, which does no harm */
    self->mapped = size;
    return 0;
}

static PyObject *
segment_grow(PyObject *object, PyObject *number)
{
    Segment *self = (Segment *)object;
    Py_ssize_t cells = PyNumber_AsSsize_t(number, PyExc_OverflowError);
    if (cells == -1 && PyErr_Occurred())
        return NULL;
    int status = 0;
    Py_BEGIN_CRITICAL_SECTION(object);
    if (cells > 0 && (size_t)cells > cells_of(self)) {
        errno = ENOMEM;
        status = -1;
        if ((size_t)cells <= (self->reserved - HEAD) / sizeof(uint64_t))
            status = extend(self, rounded_up(HEAD + (size_t)cells * sizeof(uint64_t), self->chunk));
    }
    Py_END_CRITICAL_SECTION();
    return status < 0 ? os_error(self) : Py_NewRef(Py_None);
}

/* Return the place of some cells; NULL with an exception if they were not grown. */
static uint64_t *
place_of(Segment *self, Py_ssize_t index, Py_ssize_t count)
{
    Py_ssize_t cells = (Py_ssize_t)cells_of(self);
    if (index < 0 || index > cells - count) {
        PyErr_Format(PyExc_IndexError, "no cells %zd to %zd: the segment has %zd", index,
                     index + count - 1, cells);
        return NULL;
    }
    return (uint64_t *)(void *)(self->base + HEAD) + index;
}

static uint64_t *
place_at(PyObject *self, PyObject *number)
{
    Py_ssize_t index = PyNumber_AsSsize_t(number, PyExc_IndexError);
    return index == -1 && PyErr_Occurred() ? NULL : place_of((Segment *)self, index, 1);
}

static PyObject *
segment_cell(PyObject *self, PyObject *number)
{
    uint64_t *place = place_at(self, number);
    Cell *cell = place == NULL ? NULL : (Cell *)cell_type->tp_alloc(cell_type, 0);
    if (cell != NULL) {
        cell->place = place;
        cell->of.segment = Py_NewRef(self);
    }
    return (PyObject *)cell;
}

/* Read the file, or memory where there is none. */
static PyObject *
segment_data(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Segment *self = (Segment *)object;
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->mapped);
    if (data == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(data);
    size_t size = (size_t)PyBytes_GET_SIZE(data), done = 0;
    if (self->where != IN_FILE || !is_own(&self->file)) {
        memcpy(to, self->base, size);
        return data;
    }
    while (done < size) {
        ssize_t got = pread(self->file.number, to + done, size - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            Py_DECREF(data);
            return os_error(self);
        }
        if (got == 0) { /* the file was truncated */
            memset(to + done, 0, size - done);
            break;
        }
        done += (size_t)got;
    }
    return data;
}

/* Remove the name of the file. Return -1 with errno. */
static int
remove_file(Segment *self)
{
    if (self->where != IN_FILE || self->name[0] == 0)
        return 0;
    int directory = directory_of(self);
    return directory < 0 || unlinkat(directory, self->name, 0) < 0 ? (errno == ENOENT ? 0 : -1) : 0;
}

static PyObject *
segment_unlink(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return remove_file((Segment *)self) < 0 ? os_error((Segment *)self) : Py_NewRef(Py_None);
}

/* Give a file the values of the cells and its name, and map it over them. Return -1 with errno, and the
   cells as they were, if that fails. */
static int
fill_and_show(Segment *self, int directory, const char *hidden, int file)
{
    /* The system copies what there is: behind the end of a truncated file, zeros remain. */
    if (write_at(file, self->base + HEAD, self->mapped - HEAD, HEAD) < 0 && errno != EFAULT)
        return -1;
    remove_file(self); /* first: nothing may be counted twice */
    if (renameat(directory, hidden, directory, hidden + 1) < 0)
        return -1;
    if (map_over(self, 0, self->mapped, file) == 0)
        return 0;
    int error = errno;
    unlinkat(directory, hidden + 1, 0);
    errno = error;
    return -1;
}

/* Move the cells to a file in another directory. Return -1 with errno, and the cells as they were, if
   that fails. */
static int
move_to(Segment *self, const char *path, File *directory)
{
    char hidden[NAME];
    File made = {.number = -1};
    if (open_directory(path, directory) < 0)
        return -1;
    int file = make_file(directory->number, hidden, self->mapped, &made);
    if (file < 0)
        return -1;
    if (fill_and_show(self, directory->number, hidden, file) < 0) {
        int error = errno;
        unlinkat(directory->number, hidden, 0);
        close(file);
        errno = error;
        return -1;
    }
    close_own(&self->file);
    self->file = made;
    strcpy(self->name, hidden + 1);
    self->where = IN_FILE;
    self->error = 0;
    return 0;
}

static PyObject *
segment_move(PyObject *object, PyObject *to)
{
    Segment *self = (Segment *)object;
    PyObject *encoded;
    if (!PyUnicode_FSConverter(to, &encoded))
        return NULL;
    File directory = {.number = -1};
    char *path = copy_of(PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    if (path == NULL)
        return NULL;
    int status;
    Py_BEGIN_CRITICAL_SECTION(object);
    status = move_to(self, path, &directory);
    if (status == 0) {
        char *old = self->path;
        File before = self->directory;
        self->path = path;
        self->directory = directory;
        path = old;
        directory = before;
    }
    Py_END_CRITICAL_SECTION();
    if (status < 0)
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    close_own(&directory);
    PyMem_Free(path);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
segment_detach(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Segment *self = (Segment *)object;
    PyObject *values = segment_data(object, NULL);
    if (values == NULL)
        return NULL;
    int status = 0;
    Py_BEGIN_CRITICAL_SECTION(object);
    if (self->where == IN_FILE) {
        remove_file(self); /* while it is locked: others take an unlocked file for a dead one */
        status = map_over(self, 0, self->mapped, -1);
        if (status == 0)
            memcpy(self->base, PyBytes_AS_STRING(values), (size_t)PyBytes_GET_SIZE(values));
        close_own(&self->file);
        close_own(&self->directory);
        self->name[0] = 0;
    }
    self->where = DETACHED;
    Py_END_CRITICAL_SECTION();
    Py_DECREF(values);
    return status < 0 ? os_error(self) : Py_NewRef(Py_None);
}

static PyObject *
segment_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((Segment *)self)->name);
}

static PyObject *
segment_cells(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(cells_of((Segment *)self));
}

static PyObject *
segment_is_lost(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Segment *)self)->where == LOST);
}

static PyObject *
segment_is_linked(PyObject *object, void *Py_UNUSED(closure))
{
    Segment *self = (Segment *)object;
    struct stat found;
    return PyBool_FromLong(self->where == IN_FILE && file_of(self) >= 0 &&
                           fstat(self->file.number, &found) == 0 && found.st_nlink > 0);
}

static PyMemberDef segment_members[] = {
    {"error", T_INT, offsetof(Segment, error), READONLY, "The errno of why it is lost, or 0."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef segment_getset[] = {
    {"name", segment_name, NULL, "Name of the file; another after a fork, empty without one.", NULL},
    {"cells", segment_cells, NULL, "How many cells can be used.", NULL},
    {"is_lost", segment_is_lost, NULL, "Whether a fork could not make a file here.", NULL},
    {"is_linked", segment_is_linked, NULL, "Whether the file still has its name.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- Cells of numbers, which are in _cells.c -------------------------------------------------- */

static PyObject *
make_at(PyObject *self, PyObject *number, CellKind kind)
{
    Py_ssize_t index = PyNumber_AsSsize_t(number, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    uint64_t *place = place_of((Segment *)self, index, size_of_cell(kind, NULL));
    return place == NULL ? NULL : make_cell(kind, self, place, NULL);
}

static PyObject *
segment_sum(PyObject *self, PyObject *number)
{
    return make_at(self, number, FLOAT_CELL);
}

static PyObject *
segment_number(PyObject *self, PyObject *number)
{
    return make_at(self, number, NUMBER_CELL);
}

static PyObject *
segment_gauge(PyObject *self, PyObject *number)
{
    return make_at(self, number, GAUGE_CELL);
}

static PyObject *
make_buckets(PyObject *self, PyObject *args, CellKind kind)
{
    Py_ssize_t index;
    PyObject *bounds;
    if (!PyArg_ParseTuple(args, "nO!", &index, &PyTuple_Type, &bounds))
        return NULL;
    uint64_t *place = place_of((Segment *)self, index, size_of_cell(kind, bounds));
    return place == NULL ? NULL : make_cell(kind, self, place, bounds);
}

static PyObject *
segment_histogram(PyObject *self, PyObject *args)
{
    return make_buckets(self, args, DURATIONS_CELL);
}

static PyObject *
segment_values(PyObject *self, PyObject *args)
{
    return make_buckets(self, args, HISTOGRAM_CELL);
}

static PyObject *
segment_page(PyObject *self, PyObject *args)
{
    Py_ssize_t index, size, slots;
    if (!PyArg_ParseTuple(args, "nnn:page", &index, &size, &slots) || !are_page_sizes(size, slots))
        return NULL;
    uint64_t *place = place_of((Segment *)self, index, size_of_page(size, slots));
    return place == NULL ? NULL : make_page(self, place, size, slots);
}

#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE)

/* For `gc.callbacks`. A function in Python would not do: what a signal handler raises in it is lost to
   the application. The first nine cells are what hypertrace.metrics.shared.garbage says. */
static PyObject *
segment_count_garbage(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    static const char *const names[] = {"generation", "collected", "uncollectable"};
    long found[3] = {-1, 0, 0};
    uint64_t *cells = place_of((Segment *)self, 0, 9);
    if (cells != NULL && nargs == 2 && PyUnicode_Check(args[0]) && PyDict_Check(args[1]) &&
        PyUnicode_CompareWithASCIIString(args[0], "stop") == 0)
        for (int i = 0; i < 3; i++) {
            PyObject *number = PyDict_GetItemString(args[1], names[i]);
            found[i] = number == NULL ? found[i] : PyLong_AsLong(number);
        }
    PyErr_Clear();
    if (found[0] >= 0 && found[0] < 3) {
        double *numbers = (double *)(void *)cells + found[0];
        numbers[0] += 1;
        numbers[3] += (double)found[1];
        numbers[6] += (double)found[2];
    }
    Py_RETURN_NONE;
}

static PyMethodDef segment_methods[] = {
    {"count_garbage", (PyCFunction)(void (*)(void))segment_count_garbage, METH_FASTCALL,
     "Add a collection of garbage to the first cells."},
    {"grow", segment_grow, METH_O, "Make at least so many cells usable."},
    {"cell", segment_cell, METH_O, "Return the cell at an index, as a count."},
    {"sum", segment_sum, METH_O, "Return the cell at an index, as a float."},
    {"number", segment_number, METH_O, "Return the cells from an index on, as a sum of amounts."},
    {"gauge", segment_gauge, METH_O, "Return the cells from an index on, as a gauge."},
    {"histogram", segment_histogram, METH_VARARGS, "Return the cells from an index on, for durations."},
    {"values", segment_values, METH_VARARGS, "Return the cells from an index on, for any values."},
    {"page", segment_page, METH_VARARGS, "Return the cells from an index on, as a page of counts."},
    {"data", segment_data, METH_NOARGS, "Return the head and all cells."},
    {"move", segment_move, METH_O, "Take a new file in another directory, with the same values."},
    {"unlink", segment_unlink, METH_NOARGS, "Remove the file; its cells go on counting."},
    {"detach", segment_detach, METH_NOARGS, "Go on in memory, with the same values, without a file."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot segment_slots[] = {
    {Py_tp_doc, "The cells of this process in a mapped file."},
    {Py_tp_new, segment_new},
    {Py_tp_dealloc, segment_dealloc},
    {Py_tp_methods, segment_methods},
    {Py_tp_members, segment_members},
    {Py_tp_getset, segment_getset},
    {0, NULL},
};

static PyType_Spec segment_spec = {
    .name = "hypertrace._speedups.Segment",
    .basicsize = sizeof(Segment),
    .flags = FLAGS,
    .slots = segment_slots,
};

/* ---- merge() --------------------------------------------------------------------------------- */

/* Buffers of bytes have any alignment. */
static inline uint64_t
get_count(const char *cells, Py_ssize_t index)
{
    uint64_t value;
    memcpy(&value, cells + index * 8, 8);
    return value;
}

static inline void
add_count(char *cells, Py_ssize_t index, uint64_t more)
{
    uint64_t value = get_count(cells, index) + more;
    memcpy(cells + index * 8, &value, 8);
}

static inline double
get_sum(const char *cells, Py_ssize_t index)
{
    double value;
    memcpy(&value, cells + index * 8, 8);
    return value;
}

static inline void
set_sum(char *cells, Py_ssize_t index, double value)
{
    memcpy(cells + index * 8, &value, 8);
}

/* Add a histogram: `n`, `s`, `s` and `b`s. Return the index behind it. */
static Py_ssize_t
merge_histogram(char *total, const char *data, const char *codes, Py_ssize_t index, Py_ssize_t end)
{
    Py_ssize_t at = index + 3;
    uint64_t count = 0;
    for (; at < end && codes[at] == 'b'; at++) {
        uint64_t more = get_count(data, at);
        count += more;
        add_count(total, at, more);
    }
    if (count == 0)
        return at;
    double sum = get_sum(total, index + 1) + get_sum(data, index + 1 + (Py_ssize_t)(count & 1));
    add_count(total, index, count);
    set_sum(total, index + 1, sum);
    set_sum(total, index + 2, sum);
    return at;
}

/* Add a slot: `w`, its stamp, and `x`s. Of two stamps the later one counts, unless it is of a time to
   come, before the clock was set back. Return the index behind it. */
static Py_ssize_t
merge_slot(char *total, Py_ssize_t size, const char *data, const char *codes, Py_ssize_t index,
           Py_ssize_t end, uint64_t now)
{
    Py_ssize_t at = index + 1;
    uint64_t stamp = get_count(data, index), held = get_count(total, index);
    while (at < size && codes[at] == 'x')
        at++;
    if (stamp == 0 || stamp < held || stamp > now)
        return at;
    if (stamp > held) {
        memset(total + index * 8, 0, (size_t)(at - index) * 8);
        add_count(total, index, stamp);
    }
    for (Py_ssize_t i = index + 1; i < at && i < end; i++)
        add_count(total, i, get_count(data, i));
    return at;
}

/* Return the microseconds since the epoch. */
static uint64_t
microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void
merge_cells(char *total, Py_ssize_t size, const char *data, const char *codes, Py_ssize_t end)
{
    uint64_t now = microseconds();
    for (Py_ssize_t i = 0; i < end;)
        switch (codes[i]) {
        case 'c':
        case 'b':
        case 'v':
            add_count(total, i, get_count(data, i));
            i++;
            break;
        case 'f':
            set_sum(total, i, get_sum(total, i) + get_sum(data, i));
            i++;
            break;
        case 'n':
            i = merge_histogram(total, data, codes, i, end);
            break;
        case 'w':
            i = merge_slot(total, size, data, codes, i, end, now);
            break;
        default:
            i++;
        }
}

static Py_ssize_t
smaller(Py_ssize_t one, Py_ssize_t other)
{
    return one < other ? one : other;
}

static PyObject *
merge(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer total, data, layout;
    if (!PyArg_ParseTuple(args, "w*y*y*:merge", &total, &data, &layout))
        return NULL;
    Py_ssize_t size = smaller(total.len / 8, layout.len);
    merge_cells(total.buf, size, data.buf, layout.buf, smaller(size, data.len / 8));
    PyBuffer_Release(&total);
    PyBuffer_Release(&data);
    PyBuffer_Release(&layout);
    Py_RETURN_NONE;
}

/* ---- Module ---------------------------------------------------------------------------------- */

static PyObject *
forks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(fork_count);
}

static PyMethodDef functions[] = {
    {"merge", merge, METH_VARARGS, "merge(total, data, layout): add a worker's cells to a total."},
    {"forks", forks, METH_NOARGS, "Forks between the process that imported this, and this one."},
    {NULL, NULL, 0, NULL},
};

int
add_segments(PyObject *module, PyTypeObject *cells)
{
    static int handles_forks;
    if (!handles_forks) {
        if ((errno = pthread_atfork(NULL, NULL, after_fork_in_child)) != 0)
            return PyErr_SetFromErrno(PyExc_OSError), -1;
        handles_forks = 1;
    }
    cell_type = cells;
    if (add_type(module, &segment_spec, &segment_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}

#endif
