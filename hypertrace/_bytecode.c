/* Rewriting of code objects, so that calls of a function are traced where it is: CPython 3.11 only.

   rewrite(code, record) returns a code object that does the same, and in between

       +record              at the first instruction of a call, or of a generator's first step
       del record[result]   before a return
       -record              before a yield: a generator or coroutine steps out
       ~record              when it continues after a yield
       record[exception]    when it continues with an exception, before its handlers
       exception in record  when an exception leaves the call

   These operators run slots of the type of `record` and, unlike a call, nothing else: no signal
   handler, no other thread and no profiler sees them. What they raise, the function raises there.

   Lines, columns, tracebacks, and the events of trace functions stay as they were. So what is
   inserted has the location of the instruction it stands at, or none where a line has not begun. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_segments.h"

#if HAVE_BYTECODE

#include <opcode.h>

#define ABSENT (-1)

typedef struct {
    int opcode;
    int arg;
    int target;   /* in code units of the old code, or TO_ITEM; the item, once all are there; or ABSENT */
    int prefixes; /* how many EXTENDED_ARG stand before it */
    int caches;   /* how many code units of inline cache follow */
    int place;    /* of its first prefix, in code units */
    int location; /* index, or ABSENT */
    int handler;  /* index, or ABSENT */
} Item;

typedef struct {
    int start; /* in code units of the old code, like `end` */
    int end;
    int line; /* or ABSENT for no location */
    int end_line;
    int column;
    int end_column;
} Location;

typedef struct {
    int target; /* in code units of the old code; the item, once all are laid out */
    int depth;
    int with_lasti;
    int after_throw; /* the handler that steps in, and then raises again for this one; or ABSENT */
} Handler;

typedef struct {
    int start;
    int end;
    int handler;
} Covered;

typedef struct {
    void *entries;
    int length;
    int capacity;
} Array;

typedef struct {
    const unsigned char *next;
    const unsigned char *end;
    int failed;
} Reader;

typedef struct {
    const unsigned char *code;
    int units;
    int record; /* index of the constant */
    int *items_at; /* by code units of the old code, the item that stands there, or ABSENT */
    Array items;
    Array locations;
    Array handlers; /* the first one is for exceptions that leave the call */
    int old_handlers;
    Array covered;
    int location; /* of the instruction that is copied now */
    int handler;
} Rewriting;

enum { LEAVES = 0 };

/* A target that is an item, among those that are code units of the old code; and back. */
#define TO_ITEM(index) (-2 - (index))

#define ITEM(rewriting, index) (((Item *)(rewriting)->items.entries)[index])
#define LOCATION(rewriting, index) (((Location *)(rewriting)->locations.entries)[index])
#define HANDLER(rewriting, index) (((Handler *)(rewriting)->handlers.entries)[index])
#define COVERED(rewriting, index) (((Covered *)(rewriting)->covered.entries)[index])

/* Return the place of a new last entry; NULL without memory. */
static void *
append(Array *array, size_t size)
{
    if (array->length == array->capacity) {
        int capacity = array->capacity * 2 + 64;
        void *entries = PyMem_Realloc(array->entries, (size_t)capacity * size);
        if (entries == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        array->entries = entries;
        array->capacity = capacity;
    }
    return (char *)array->entries + (size_t)array->length++ * size;
}

static int
refuse(const char *reason)
{
    PyErr_Format(PyExc_ValueError, "cannot rewrite this code: %s", reason);
    return -1;
}

/* ---- reading ---- */

static int
read_byte(Reader *reader)
{
    if (reader->next >= reader->end) {
        reader->failed = 1;
        return 0;
    }
    return *reader->next++;
}

/* Of the exception table: the highest bits come first. */
static int
read_table_number(Reader *reader)
{
    int byte = read_byte(reader);
    unsigned number = byte & 63;
    while (byte & 64) {
        byte = read_byte(reader);
        number = number << 6 | (byte & 63);
    }
    return (int)number;
}

/* Of the locations: the lowest bits come first. */
static int
read_number(Reader *reader)
{
    int byte = read_byte(reader);
    unsigned number = byte & 63;
    for (int shift = 6; byte & 64 && shift < 32; shift += 6) {
        byte = read_byte(reader);
        number |= (unsigned)(byte & 63) << shift;
    }
    return (int)number;
}

static int
read_signed(Reader *reader)
{
    unsigned number = (unsigned)read_number(reader);
    return number & 1 ? -(int)(number >> 1) : (int)(number >> 1);
}

static void
read_columns(Reader *reader, int form, int *line, Location *location)
{
    int byte;
    switch (form) {
    case 14:
        *line += read_signed(reader);
        location->end_line = *line + read_number(reader);
        location->column = read_number(reader) - 1;
        location->end_column = read_number(reader) - 1;
        return;
    case 13:
        *line += read_signed(reader);
        location->column = location->end_column = ABSENT;
        break;
    case 12:
    case 11:
    case 10:
        *line += form - 10;
        location->column = read_byte(reader);
        location->end_column = read_byte(reader);
        break;
    default:
        byte = read_byte(reader);
        location->column = form << 3 | byte >> 4;
        location->end_column = location->column + (byte & 15);
    }
    location->end_line = *line;
}

static int
read_locations(Rewriting *rewriting, PyCodeObject *code)
{
    Reader reader = {.next = (unsigned char *)PyBytes_AS_STRING(code->co_linetable)};
    reader.end = reader.next + PyBytes_GET_SIZE(code->co_linetable);
    int line = code->co_firstlineno, start = 0;
    while (reader.next < reader.end) {
        Location *location = append(&rewriting->locations, sizeof(Location));
        if (location == NULL)
            return -1;
        int first = read_byte(&reader), form = first >> 3 & 15;
        location->start = start;
        location->end = start += (first & 7) + 1;
        if (form != 15)
            read_columns(&reader, form, &line, location);
        location->line = form == 15 ? ABSENT : line;
    }
    return reader.failed ? refuse("its lines cannot be read") : 0;
}

/* Return the handler with a target, which may cover several ranges; -1 on an error. */
static int
find_handler(Rewriting *rewriting, int target, int depth, int with_lasti)
{
    for (int i = rewriting->handlers.length - 1; i > LEAVES; i--) {
        Handler *handler = &HANDLER(rewriting, i);
        if (handler->target == target && handler->depth == depth &&
            handler->with_lasti == with_lasti)
            return i;
    }
    Handler *handler = append(&rewriting->handlers, sizeof(Handler));
    if (handler == NULL)
        return -1;
    *handler = (Handler){target, depth, with_lasti, ABSENT};
    return rewriting->handlers.length - 1;
}

static int
read_exception_table(Rewriting *rewriting, PyCodeObject *code)
{
    Reader reader = {.next = (unsigned char *)PyBytes_AS_STRING(code->co_exceptiontable)};
    reader.end = reader.next + PyBytes_GET_SIZE(code->co_exceptiontable);
    if (find_handler(rewriting, ABSENT, 0, 1) < 0)
        return -1;
    while (reader.next < reader.end) {
        int start = read_table_number(&reader), size = read_table_number(&reader);
        int target = read_table_number(&reader), depth = read_table_number(&reader);
        if (reader.failed || target < 0 || target >= rewriting->units)
            return refuse("its exception table cannot be read");
        int handler = find_handler(rewriting, target, depth >> 1, depth & 1);
        Covered *covered = append(&rewriting->covered, sizeof(Covered));
        if (handler < 0 || covered == NULL)
            return -1;
        *covered = (Covered){start, start + size, handler};
    }
    rewriting->old_handlers = rewriting->handlers.length;
    return 0;
}

/* ---- items ---- */

static int
caches_of(int opcode)
{
    switch (opcode) {
    case LOAD_METHOD:
        return 10;
    case LOAD_GLOBAL:
        return 5;
    case BINARY_SUBSCR:
    case LOAD_ATTR:
    case STORE_ATTR:
    case CALL:
        return 4;
    case COMPARE_OP:
        return 2;
    case BINARY_OP:
    case PRECALL:
    case STORE_SUBSCR:
    case UNPACK_SEQUENCE:
        return 1;
    default:
        return 0;
    }
}

/* Return 1 for a jump forward, -1 for one backward, 0 for what does not jump. */
static int
direction_of(int opcode)
{
    switch (opcode) {
    case FOR_ITER:
    case JUMP_FORWARD:
    case JUMP_IF_FALSE_OR_POP:
    case JUMP_IF_TRUE_OR_POP:
    case POP_JUMP_FORWARD_IF_FALSE:
    case POP_JUMP_FORWARD_IF_TRUE:
    case POP_JUMP_FORWARD_IF_NOT_NONE:
    case POP_JUMP_FORWARD_IF_NONE:
    case SEND:
        return 1;
    case JUMP_BACKWARD:
    case JUMP_BACKWARD_NO_INTERRUPT:
    case POP_JUMP_BACKWARD_IF_NOT_NONE:
    case POP_JUMP_BACKWARD_IF_NONE:
    case POP_JUMP_BACKWARD_IF_FALSE:
    case POP_JUMP_BACKWARD_IF_TRUE:
        return -1;
    default:
        return 0;
    }
}

static int
prefixes_for(int arg)
{
    return arg > 0xffffff ? 3 : arg > 0xffff ? 2 : arg > 0xff ? 1 : 0;
}

/* Append an instruction with the location and the handler of the one that is copied now. Return its
   index; -1 without memory. */
static int
add(Rewriting *rewriting, int opcode, int arg, int target)
{
    Item *item = append(&rewriting->items, sizeof(Item));
    if (item == NULL)
        return -1;
    *item = (Item){
        .opcode = opcode,
        .arg = arg,
        .target = target,
        .prefixes = prefixes_for(arg),
        .caches = caches_of(opcode),
        .location = rewriting->location,
        .handler = rewriting->handler,
    };
    return rewriting->items.length - 1;
}

/* Append an operator on the record. */
static int
add_operator(Rewriting *rewriting, int opcode)
{
    if (add(rewriting, LOAD_CONST, rewriting->record, ABSENT) < 0 ||
        add(rewriting, opcode, 0, ABSENT) < 0)
        return -1;
    return add(rewriting, POP_TOP, 0, ABSENT);
}

static int
add_end(Rewriting *rewriting)
{
    if (add(rewriting, LOAD_CONST, rewriting->record, ABSENT) < 0 ||
        add(rewriting, COPY, 2, ABSENT) < 0)
        return -1;
    return add(rewriting, DELETE_SUBSCR, 0, ABSENT);
}

static int
add_thrown(Rewriting *rewriting)
{
    if (add(rewriting, LOAD_CONST, rewriting->record, ABSENT) < 0 ||
        add(rewriting, COPY, 2, ABSENT) < 0 || add(rewriting, BINARY_SUBSCR, 0, ABSENT) < 0 ||
        add(rewriting, POP_TOP, 0, ABSENT) < 0)
        return -1;
    return add(rewriting, RERAISE, 1, ABSENT);
}

/* Return the handler that steps in and raises again for another one; ABSENT without memory.

   The exception of `throw()` arrives at the instruction that yielded, and skips those after it. */
static int
after_throw(Rewriting *rewriting, int handler)
{
    if (handler <= LEAVES)
        return handler;
    int found = HANDLER(rewriting, handler).after_throw;
    if (found == ABSENT) {
        int depth = HANDLER(rewriting, handler).depth;
        Handler *made = append(&rewriting->handlers, sizeof(Handler));
        if (made == NULL)
            return ABSENT;
        *made = (Handler){ABSENT, depth, 1, ABSENT};
        found = HANDLER(rewriting, handler).after_throw = rewriting->handlers.length - 1;
    }
    return found;
}

/* Append the handlers that are new; the last one is for exceptions that leave the call. */
static int
add_handlers(Rewriting *rewriting)
{
    rewriting->location = ABSENT;
    for (int i = 0; i < rewriting->handlers.length; i++) {
        int own = HANDLER(rewriting, i).after_throw;
        if (own == ABSENT)
            continue;
        rewriting->handler = i;
        HANDLER(rewriting, own).target = rewriting->items.length;
        if (add_thrown(rewriting) < 0)
            return -1;
    }
    rewriting->handler = ABSENT;
    HANDLER(rewriting, LEAVES).target = rewriting->items.length;
    if (add(rewriting, COPY, 1, ABSENT) < 0 || add_operator(rewriting, CONTAINS_OP) < 0)
        return -1;
    return add(rewriting, RERAISE, 1, ABSENT);
}

/* ---- copying ---- */

typedef struct {
    int opcode;
    int arg;
    int prefixes;
    int start; /* in code units, like `end` and `target` */
    int end;
    int target;
} Instruction;

static int
read_instruction(Rewriting *rewriting, int start, Instruction *read)
{
    unsigned arg = 0;
    int at = start;
    for (;; at++) {
        if (at >= rewriting->units)
            return refuse("it ends within an instruction");
        arg = arg << 8 | rewriting->code[2 * at + 1];
        if (rewriting->code[2 * at] != EXTENDED_ARG)
            break;
    }
    int opcode = rewriting->code[2 * at], direction = direction_of(opcode);
    int end = at + 1 + caches_of(opcode);
    long long target = direction == 0 ? ABSENT : (long long)end + direction * (long long)arg;
    if (end > rewriting->units || (direction != 0 && (target < 0 || target >= rewriting->units)))
        return refuse("it leaves itself");
    *read = (Instruction){opcode, (int)arg, at - start, start, end, (int)target};
    return 0;
}

/* Copy one instruction; its jump is to a code unit of the old code until all are copied. */
static int
copy(Rewriting *rewriting, Instruction *read)
{
    int copied = add(rewriting, read->opcode, read->arg, read->target);
    if (copied >= 0)
        ITEM(rewriting, copied).prefixes = read->prefixes;
    return copied;
}

/* Copy a `yield`, with its RESUME. */
static int
copy_yield(Rewriting *rewriting, Instruction *yielding, int *next)
{
    Instruction resuming;
    if (read_instruction(rewriting, yielding->end, &resuming) < 0)
        return -1;
    if (resuming.opcode != RESUME)
        return refuse("it does not resume after a yield");
    int handler = rewriting->handler;
    rewriting->handler = after_throw(rewriting, handler);
    if (rewriting->handler == ABSENT || copy(rewriting, yielding) < 0 ||
        copy(rewriting, &resuming) < 0)
        return -1;
    rewriting->handler = handler;
    *next = resuming.end;
    return add_operator(rewriting, UNARY_INVERT);
}

/* Copy a `yield` of `yield from` or `await`, up to its jump back.

   If the inner generator ends in throw(), the interpreter looks for SEND directly before the yield,
   and continues at its target without a step in. So put one there that is never executed and whose
   target steps in first. */
static int
copy_delegation(Rewriting *rewriting, Instruction *yielding, int target, int *next)
{
    Instruction back;
    int skip = add(rewriting, JUMP_FORWARD, 0, ABSENT);
    int send = add(rewriting, SEND, 0, ABSENT);
    if (skip < 0 || send < 0)
        return -1;
    ITEM(rewriting, skip).target = TO_ITEM(rewriting->items.length);
    if (copy_yield(rewriting, yielding, next) < 0 ||
        read_instruction(rewriting, *next, &back) < 0)
        return -1;
    if (back.opcode != JUMP_BACKWARD_NO_INTERRUPT)
        return refuse("it does not continue to delegate");
    int handler = rewriting->handler;
    rewriting->handler = after_throw(rewriting, handler);
    if (copy(rewriting, &back) < 0)
        return -1;
    rewriting->handler = handler;
    ITEM(rewriting, send).target = TO_ITEM(rewriting->items.length);
    if (add_operator(rewriting, UNARY_INVERT) < 0)
        return -1;
    *next = back.end;
    return target == back.end ? 0 : add(rewriting, JUMP_FORWARD, 0, target);
}

static int
copy_code(Rewriting *rewriting)
{
    int next = 0, begun = 0, locations = 0, covered = 0;
    Instruction read = {.opcode = 0}, before;
    rewriting->handler = ABSENT;
    while (next < rewriting->units) {
        before = read;
        if (read_instruction(rewriting, next, &read) < 0)
            return -1;
        while (locations < rewriting->locations.length &&
               LOCATION(rewriting, locations).end <= next)
            locations++;
        while (covered < rewriting->covered.length && COVERED(rewriting, covered).end <= next)
            covered++;
        rewriting->location = locations < rewriting->locations.length ? locations : ABSENT;
        if (begun) {
            rewriting->handler = LEAVES;
            if (covered < rewriting->covered.length && COVERED(rewriting, covered).start <= next)
                rewriting->handler = COVERED(rewriting, covered).handler;
        }
        rewriting->items_at[next] = rewriting->items.length;
        next = read.end;
        int added;
        if (!begun && (read.opcode == RETURN_VALUE || read.opcode == YIELD_VALUE))
            return refuse("it has no beginning");
        if (read.opcode == RETURN_VALUE)
            added = add_end(rewriting) < 0 ? -1 : copy(rewriting, &read);
        else if (read.opcode == YIELD_VALUE) {
            added = add_operator(rewriting, UNARY_NEGATIVE);
            if (added >= 0)
                added = before.opcode == SEND
                            ? copy_delegation(rewriting, &read, before.target, &next)
                            : copy_yield(rewriting, &read, &next);
        } else
            added = copy(rewriting, &read);
        if (added < 0)
            return -1;
        if (read.opcode == RESUME && !begun) {
            begun = 1;
            rewriting->location = ABSENT;
            rewriting->handler = LEAVES;
            if (add_operator(rewriting, UNARY_POSITIVE) < 0)
                return -1;
        }
    }
    return begun ? add_handlers(rewriting) : refuse("it has no beginning");
}

/* ---- layout ---- */

/* Return the item at a code unit of the old code; -1 if an instruction does not begin there. */
static int
item_at(Rewriting *rewriting, int place)
{
    int item = rewriting->items_at[place];
    return item == ABSENT ? refuse("it jumps into an instruction") : item;
}

static int
resolve_targets(Rewriting *rewriting)
{
    for (int i = 0; i < rewriting->items.length; i++) {
        Item *item = &ITEM(rewriting, i);
        if (item->target < ABSENT)
            item->target = TO_ITEM(item->target);
        else if (item->target != ABSENT &&
                 (item->target = item_at(rewriting, item->target)) < 0)
            return -1;
    }
    for (int i = LEAVES + 1; i < rewriting->old_handlers; i++) {
        Handler *handler = &HANDLER(rewriting, i);
        if ((handler->target = item_at(rewriting, handler->target)) < 0)
            return -1;
    }
    return 0;
}

/* Set the place of each item, and return how many code units there are in all. */
static int
place_items(Rewriting *rewriting)
{
    int place = 0;
    for (int i = 0; i < rewriting->items.length; i++) {
        Item *item = &ITEM(rewriting, i);
        item->place = place;
        place += item->prefixes + 1 + item->caches;
    }
    return place;
}

/* Lay the items out, and return how many code units there are; -1 on an error.

   A jump that needs another prefix makes others longer, so repeat until all have what they need. */
static int
lay_out(Rewriting *rewriting)
{
    for (;;) {
        int units = place_items(rewriting), has_grown = 0;
        for (int i = 0; i < rewriting->items.length; i++) {
            Item *item = &ITEM(rewriting, i);
            if (item->target == ABSENT)
                continue;
            int next = item->place + item->prefixes + 1;
            item->arg = (ITEM(rewriting, item->target).place - next) * direction_of(item->opcode);
            if (item->arg < 0)
                return refuse("a jump changes its direction");
            if (prefixes_for(item->arg) > item->prefixes) {
                item->prefixes = prefixes_for(item->arg);
                has_grown = 1;
            }
        }
        if (!has_grown)
            return units;
    }
}

/* ---- writing ---- */

static PyObject *
written_code(Rewriting *rewriting, int units)
{
    PyObject *code = PyBytes_FromStringAndSize(NULL, 2 * (Py_ssize_t)units);
    if (code == NULL)
        return NULL;
    unsigned char *next = (unsigned char *)PyBytes_AS_STRING(code);
    for (int i = 0; i < rewriting->items.length; i++) {
        Item *item = &ITEM(rewriting, i);
        for (int prefix = item->prefixes; prefix > 0; prefix--) {
            *next++ = EXTENDED_ARG;
            *next++ = (unsigned char)((unsigned)item->arg >> 8 * prefix);
        }
        *next++ = (unsigned char)item->opcode;
        *next++ = (unsigned char)item->arg;
        memset(next, 0, 2 * (size_t)item->caches); /* CACHE 0 */
        next += 2 * item->caches;
    }
    return code;
}

static unsigned char *
write_number(unsigned char *next, unsigned number)
{
    for (; number >= 64; number >>= 6)
        *next++ = (number & 63) | 64;
    *next++ = (unsigned char)number;
    return next;
}

static unsigned char *
write_signed(unsigned char *next, int number)
{
    return write_number(next, number < 0 ? (0u - (unsigned)number) << 1 | 1 : (unsigned)number << 1);
}

static unsigned char *
write_location(unsigned char *next, const Location *location, int delta, int units)
{
    int column = location->column, end_column = location->end_column;
    int is_one_line = location->end_line == location->line && column >= 0 && end_column >= 0;
    unsigned char *first = next++;
    int form = 14;
    if (location->line == ABSENT)
        form = 15;
    else if (column < 0 && end_column < 0 && location->end_line == location->line) {
        form = 13;
        next = write_signed(next, delta);
    } else if (is_one_line && delta == 0 && column < 80 && end_column >= column &&
               end_column - column < 16) {
        form = column >> 3;
        *next++ = (unsigned char)((column & 7) << 4 | (end_column - column));
    } else if (is_one_line && delta >= 0 && delta < 3 && column < 128 && end_column < 128) {
        form = 10 + delta;
        *next++ = (unsigned char)column;
        *next++ = (unsigned char)end_column;
    } else {
        next = write_signed(next, delta);
        next = write_number(next, (unsigned)(location->end_line - location->line));
        next = write_number(next, (unsigned)(column + 1));
        next = write_number(next, (unsigned)(end_column + 1));
    }
    *first = (unsigned char)(128 | form << 3 | (units - 1));
    return next;
}

enum { LONGEST_LOCATION = 1 + 4 * 6, MOST_UNITS = 8, LONGEST_RANGE = 4 * 6 };

static int
units_between(Rewriting *rewriting, int start, int end, int units)
{
    int until = end < rewriting->items.length ? ITEM(rewriting, end).place : units;
    return until - ITEM(rewriting, start).place;
}

static PyObject *
written_locations(Rewriting *rewriting, int line, int units)
{
    static const Location nowhere = {.line = ABSENT};
    size_t entries = (size_t)rewriting->items.length + (size_t)units / MOST_UNITS;
    unsigned char *buffer = PyMem_Malloc(entries * LONGEST_LOCATION), *next = buffer;
    if (buffer == NULL)
        return PyErr_NoMemory();
    for (int start = 0, end; start < rewriting->items.length; start = end) {
        int index = ITEM(rewriting, start).location;
        for (end = start + 1; end < rewriting->items.length; end++)
            if (ITEM(rewriting, end).location != index)
                break;
        const Location *location = index == ABSENT ? &nowhere : &LOCATION(rewriting, index);
        int left = units_between(rewriting, start, end, units);
        for (; left > 0; left -= MOST_UNITS) {
            int delta = location->line == ABSENT ? 0 : location->line - line;
            next = write_location(next, location, delta, left < MOST_UNITS ? left : MOST_UNITS);
            line += delta;
        }
    }
    PyObject *written = PyBytes_FromStringAndSize((char *)buffer, next - buffer);
    PyMem_Free(buffer);
    return written;
}

static unsigned char *
write_table_number(unsigned char *next, int number, int mark)
{
    for (int shift = 24; shift > 0; shift -= 6)
        if (number >> shift) {
            *next++ = (unsigned char)((number >> shift & 63) | 64 | mark);
            mark = 0;
        }
    *next++ = (unsigned char)((number & 63) | mark);
    return next;
}

static PyObject *
written_exception_table(Rewriting *rewriting, int units)
{
    unsigned char *buffer = PyMem_Malloc((size_t)rewriting->items.length * LONGEST_RANGE);
    unsigned char *next = buffer;
    if (buffer == NULL)
        return PyErr_NoMemory();
    for (int start = 0, end; start < rewriting->items.length; start = end) {
        int index = ITEM(rewriting, start).handler;
        for (end = start + 1; end < rewriting->items.length; end++)
            if (ITEM(rewriting, end).handler != index)
                break;
        if (index == ABSENT)
            continue;
        Handler *handler = &HANDLER(rewriting, index);
        next = write_table_number(next, ITEM(rewriting, start).place, 128);
        next = write_table_number(next, units_between(rewriting, start, end, units), 0);
        next = write_table_number(next, ITEM(rewriting, handler->target).place, 0);
        next = write_table_number(next, handler->depth << 1 | handler->with_lasti, 0);
    }
    PyObject *written = PyBytes_FromStringAndSize((char *)buffer, next - buffer);
    PyMem_Free(buffer);
    return written;
}

/* ---- code objects ---- */

static PyObject *
with_constant(PyObject *constants, PyObject *constant)
{
    Py_ssize_t length = PyTuple_GET_SIZE(constants);
    PyObject *longer = PyTuple_New(length + 1);
    if (longer == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < length; i++)
        PyTuple_SET_ITEM(longer, i, Py_NewRef(PyTuple_GET_ITEM(constants, i)));
    PyTuple_SET_ITEM(longer, length, Py_NewRef(constant));
    return longer;
}

enum { HOOKS_DEPTH = 3, HANDLERS_DEPTH = 4 };

static PyObject *
made_code(Rewriting *rewriting, PyCodeObject *old, PyObject *record, int units)
{
    PyObject *code = written_code(rewriting, units);
    PyObject *lines = written_locations(rewriting, old->co_firstlineno, units);
    PyObject *exceptions = written_exception_table(rewriting, units);
    PyObject *constants = with_constant(old->co_consts, record);
    PyObject *names = PyCode_GetVarnames(old), *cells = PyCode_GetCellvars(old);
    PyObject *free = PyCode_GetFreevars(old), *made = NULL;
    int depth = Py_MAX(old->co_stacksize + HOOKS_DEPTH, HANDLERS_DEPTH);
    if (code && lines && exceptions && constants && names && cells && free)
        made = (PyObject *)PyCode_NewWithPosOnlyArgs(
            old->co_argcount, old->co_posonlyargcount, old->co_kwonlyargcount, old->co_nlocals,
            depth, old->co_flags, code, constants, old->co_names, names, free, cells,
            old->co_filename, old->co_name, old->co_qualname, old->co_firstlineno, lines,
            exceptions);
    Py_XDECREF(code);
    Py_XDECREF(lines);
    Py_XDECREF(exceptions);
    Py_XDECREF(constants);
    Py_XDECREF(names);
    Py_XDECREF(cells);
    Py_XDECREF(free);
    return made;
}

static PyObject *
rewrite_bytes(PyCodeObject *old, PyObject *code, PyObject *record)
{
    Rewriting rewriting = {.code = (unsigned char *)PyBytes_AS_STRING(code)};
    rewriting.units = (int)(PyBytes_GET_SIZE(code) / 2);
    rewriting.record = (int)PyTuple_GET_SIZE(old->co_consts);
    rewriting.items_at = PyMem_Malloc((size_t)rewriting.units * sizeof(int));
    PyObject *made = NULL;
    if (rewriting.items_at == NULL)
        return PyErr_NoMemory();
    for (int i = 0; i < rewriting.units; i++)
        rewriting.items_at[i] = ABSENT;
    int units = -1;
    if (read_locations(&rewriting, old) == 0 && read_exception_table(&rewriting, old) == 0 &&
        copy_code(&rewriting) >= 0 && resolve_targets(&rewriting) == 0)
        units = lay_out(&rewriting);
    if (units >= 0)
        made = made_code(&rewriting, old, record, units);
    PyMem_Free(rewriting.items_at);
    PyMem_Free(rewriting.items.entries);
    PyMem_Free(rewriting.locations.entries);
    PyMem_Free(rewriting.handlers.entries);
    PyMem_Free(rewriting.covered.entries);
    return made;
}

PyObject *
rewrite_code(PyObject *code, PyObject *record)
{
    PyCodeObject *old = (PyCodeObject *)code;
    PyObject *bytes = PyCode_GetCode(old); /* without what the interpreter specialized */
    if (bytes == NULL)
        return NULL;
    PyObject *made = rewrite_bytes(old, bytes, record);
    Py_DECREF(bytes);
    return made;
}

static PyObject *
rewrite(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 2 && PyCode_Check(args[0]))
        return rewrite_code(args[0], args[1]);
    PyErr_SetString(PyExc_TypeError, "rewrite() takes a code object and a record");
    return NULL;
}

static PyMethodDef bytecode_functions[] = {
    {"rewrite", (PyCFunction)(void (*)(void))rewrite, METH_FASTCALL,
     "Return a code object that does the same, and uses operators on a record in between."},
    {NULL, NULL, 0, NULL},
};

int
add_bytecode(PyObject *module)
{
    return PyModule_AddFunctions(module, bytecode_functions);
}

#endif
