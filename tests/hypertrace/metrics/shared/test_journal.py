"""Journal: records of several processes in one order, torn ones, and closed descriptors."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from hypertrace.metrics.shared import journal as module
from hypertrace.metrics.shared.journal import Journal, Place, Record

from ....running import in_threads


class Reader:
    """Applies records as a storage does: the first of equal ones gets the next cell."""

    def __init__(self, directory: Path) -> None:
        self.cells: dict[str, int] = {}
        self.applied: list[Record] = []
        self.interrupt: Any = None
        self.journal = Journal(str(directory), self.apply)

    def apply(self, place: Place, record: Record) -> Place:
        """Give a cell to a record that has none from before."""
        self.applied.append(record)
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()
        name = json.dumps(record)
        at = self.cells.setdefault(name, place.cells)
        return place if at < place.cells else place._replace(cells=place.cells + 1)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Give a reader of a new journal."""
    return Reader(tmp_path)


def test_records_are_applied_in_the_order_of_the_file(tmp_path: Path, reader: Reader) -> None:
    """Two readers that append in turn agree on the cells; each applies its own at once."""
    other = Reader(tmp_path)
    reader.journal.append(["a", 1])
    other.journal.append(["b", "ü\n\\"])
    assert other.cells == {'["a", 1]': 0, json.dumps(["b", "ü\n\\"]): 1}
    other.journal.append(["a", 1])
    reader.journal.append(["c"])
    other.journal.read()
    assert reader.cells == other.cells
    assert list(reader.cells.values()) == [0, 1, 2]
    assert reader.journal.place == other.journal.place
    assert reader.journal.place.cells == 3


def test_a_later_reader_reads_all(tmp_path: Path, reader: Reader) -> None:
    """A process that comes later, as after a restart, gets the same cells."""
    for number in range(100):
        reader.journal.append([number])
    other = Reader(tmp_path)
    other.journal.read()
    assert other.cells == reader.cells
    other.journal.read()
    assert len(other.applied) == 100


@pytest.mark.parametrize("kept", range(1, 20, 3))
def test_a_torn_record_is_skipped(reader: Reader, kept: int) -> None:
    """What a process that was killed has written in part has no effect, nor on what follows."""
    line = module._line(b'["torn"]')
    os.write(_appending(reader), line[:kept])
    reader.journal.append(["whole"])
    os.write(_appending(reader), line[-kept:])
    reader.journal.append(["another"])
    assert [record for record in reader.applied if record != ["torn"]] == [["whole"], ["another"]]
    if kept < len(line) - 1:
        assert ["torn"] not in reader.applied


@pytest.mark.parametrize(
    "text", [b"", b"\n\n\n", b"x" * 100, b"00000000[]\n", b"\xff\0\n", b"zzzzzzzz[1]\n"]
)
def test_what_has_no_checksum_is_no_record(reader: Reader, text: bytes) -> None:
    """Bytes of any kind between the records are skipped."""
    os.write(_appending(reader), text)
    reader.journal.append(["whole"])
    assert reader.applied == [["whole"]]


def test_the_end_of_a_record_is_waited_for(reader: Reader) -> None:
    """A record of which a part is there is applied once the rest is."""
    line = module._line(b'["late"]')
    os.write(_appending(reader), line[:9])
    reader.journal.read()
    assert reader.applied == []
    os.write(_appending(reader), line[9:])
    reader.journal.read()
    assert reader.applied == [["late"]]


def test_a_record_may_be_longer_than_what_is_read_at_once(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also such a record, those before and those after it are read."""
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 64)
    for record in (["short"], ["long" * 100], ["last"]):
        reader.journal.append(record)
    assert reader.applied == [["short"], ["long" * 100], ["last"]]


def test_a_record_without_room_is_an_error(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that was written in part is ENOSPC, and has no effect later."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(OSError, match="names") as caught:
        reader.journal.append(["torn"])
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    reader.journal.append(["whole"])
    assert reader.applied == [["whole"]]


def test_a_journal_that_was_truncated_is_an_error_and_no_loop(reader: Reader) -> None:
    """Records that cannot be read back are EIO; each attempt ends."""
    reader.journal.append(["a" * 1000])
    os.truncate(reader.journal.path, 0)
    with pytest.raises(OSError, match="cannot be read back"):
        reader.journal.append(["b"])


def test_records_survive_a_signal_in_the_middle(reader: Reader) -> None:
    """What reads and appends while a record is applied leaves the same cells as if it had not."""
    reader.interrupt = lambda: reader.journal.append(["inner"])
    reader.journal.append(["outer"])
    reader.journal.append(["next"])
    assert reader.cells == {'["outer"]': 0, '["inner"]': 1, '["next"]': 2}
    assert reader.journal.place.cells == 3


def test_threads_agree(tmp_path: Path, reader: Reader) -> None:
    """Threads that append and read at once get the cells that a later reader gets."""

    def work(thread: int) -> None:
        for number in range(200):
            reader.journal.append([number // 2, thread % 2])

    in_threads(*[lambda thread=thread: work(thread) for thread in range(4)])
    other = Reader(tmp_path)
    other.journal.read()
    assert other.cells == reader.cells
    assert sorted(other.cells.values()) == list(range(200))


def test_a_record_that_another_thread_has_read_is_found(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is faster than the one that appends does not make it append again."""
    write = os.write

    def write_and_read(file: int, line: bytes) -> int:
        written = write(file, line)
        reader.journal.read()
        return written

    monkeypatch.setattr(os, "write", write_and_read)
    reader.journal.append([1])
    reader.journal.append([2])
    assert (tmp_path / "names").read_bytes().count(b"[") == 2


PROCESS = """
import sys
from hypertrace.metrics.shared.journal import Journal
cells = {}
def apply(place, record):
    at = cells.setdefault(record[0], place.cells)
    return place if at < place.cells else place._replace(cells=place.cells + 1)
journal = Journal(sys.argv[1], apply)
sys.stdin.readline()
for number in range(500):
    journal.append([number])
print(sorted(cells.items()))
"""


def test_processes_agree(tmp_path: Path, reader: Reader) -> None:
    """Processes that append the same records at once give each the same cell."""
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes: list[Any] = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    reader.journal.read()
    assert sorted(reader.cells.values()) == list(range(500))


# --- descriptors of the application -------------------------------------------------------


def test_a_descriptor_that_the_application_closed_is_opened_again(reader: Reader) -> None:
    """A daemon that closes all descriptors goes on with the same file."""
    reader.journal.append(["a"])
    os.close(reader.journal._file._number)
    reader.journal.append(["b"])
    assert not reader.journal.is_removed
    assert reader.applied == [["a"], ["b"]]


def test_a_number_that_the_application_uses_again_is_its_own(
    tmp_path: Path, reader: Reader
) -> None:
    """Records are not written into a file that has the number of the closed descriptor."""
    number = reader.journal._file._number
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    reader.journal.append(["a"])
    reader.journal.close()
    assert (tmp_path / "other").read_bytes() == b""
    assert os.fstat(number).st_size == 0
    assert reader.applied == [["a"]]
    os.close(number)
    os.close(other)


def test_a_removed_journal_is_noticed_without_its_descriptor(
    tmp_path: Path, reader: Reader
) -> None:
    """It is removed whether its descriptor is open or not."""
    (tmp_path / "other").touch()
    assert not reader.journal.is_removed
    Path(reader.journal.path).unlink()
    assert reader.journal.is_removed
    os.close(reader.journal._file._number)
    assert reader.journal.is_removed
    # One that was there before has another inode.
    (tmp_path / "other").rename(reader.journal.path)
    assert reader.journal.is_removed


def test_a_closed_journal_raises(reader: Reader) -> None:
    """Reading and appending are an OSError; closing twice is not."""
    reader.journal.close()
    reader.journal.close()
    with pytest.raises(OSError, match="names"):
        reader.journal.read()
    with pytest.raises(OSError, match="names"):
        reader.journal.append(["a"])


# --- moving -------------------------------------------------------------------------------


def test_a_journal_moves_with_its_records(tmp_path: Path, reader: Reader) -> None:
    """The first process copies the records, the next ones find them; all go on there."""
    other = Reader(tmp_path)
    for one in (reader, other):
        one.journal.append(["a"])
    reader.journal.read()
    new = tmp_path / "new"
    new.mkdir()
    reader.journal.move(str(new))
    other.journal.move(str(new))
    other.journal.append(["b"])
    reader.journal.read()
    assert reader.cells == other.cells == {'["a"]': 0, '["b"]': 1}
    assert sorted(path.name for path in new.iterdir()) == ["names"]


def test_a_journal_does_not_move_to_other_records(tmp_path: Path, reader: Reader) -> None:
    """Where processes have begun to count something else, the old journal is kept."""
    new = tmp_path / "new"
    new.mkdir()
    Reader(new).journal.append(["other"])
    reader.journal.append(["a"])
    with pytest.raises(OSError, match="begun to count") as caught:
        reader.journal.move(str(new))
    assert caught.value.errno == errno.EEXIST
    reader.journal.append(["b"])
    assert list(reader.cells.values()) == [0, 1]


def test_a_record_is_a_line_with_its_checksum(reader: Reader) -> None:
    """The format: an empty line or an end of one, the CRC in hexadecimal, and JSON."""
    reader.journal.append(["a", [1, "b"]])
    text = b'["a",[1,"b"]]'
    content = Path(reader.journal.path).read_bytes()
    assert content == b"\n%08x%b\n" % (zlib.crc32(text), text)


def _appending(reader: Reader) -> int:
    return reader.journal._file.number
