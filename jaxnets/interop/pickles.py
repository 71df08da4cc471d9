"""Rewrites pickles of any protocol in protocol 2, which ``torch.load(weights_only=True)`` reads.

A pickle is a program for a stack machine. This module translates its instructions without running
them. ``torch.load`` decides which of them are allowed.
"""

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

#: The magic number of torch.save's legacy format, which is not an archive.
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5  # magic number, protocol version, system information, object, storage keys
_PICKLE = "data.pkl"

#: Opcodes that are the same in protocol 2.
_SAME = frozenset(
    (
        *("MARK", "NONE", "NEWTRUE", "NEWFALSE", "STOP", "BUILD", "REDUCE", "NEWOBJ", "BINPERSID"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    )
)
#: Sets become lists and frozensets become tuples, as ``weights_only`` reads only empty sets.
_INSTEAD = {
    "EMPTY_SET": pickle.EMPTY_LIST,
    "ADDITEMS": pickle.APPENDS,
    "FROZENSET": pickle.TUPLE,
}
#: All opcodes that ``weights_only`` reads.
_READ = _SAME | {
    *("PROTO", "GLOBAL", "EMPTY_SET", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
#: Names that are replaced: torch would call bytearray, whose argument may be a huge size.
_INSTEAD_OF = {
    "builtins bytearray": "builtins bytes",
    "__builtin__ bytearray": "builtins bytes",
}
_TEXTS = frozenset(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"))
_BYTES = frozenset(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_OLD_STRINGS = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))  # Python 2: text or bytes
_NUMBERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
#: Opcodes whose result may be a dictionary key that contains their arguments.
_COMPOSE = frozenset(
    ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX")
)
#: Opcodes that add to an existing object.
_FILL = frozenset(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"))
_MOST_SHARED = 1000  # largest expanded size of an object, per opcode so far
_FROM_MARK = {"LIST": pickle.EMPTY_LIST, "DICT": pickle.EMPTY_DICT}


def is_pickle(content: bytes) -> bool:
    """Whether the content begins with a complete pickle of any protocol."""
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except Exception:  # damage raises many kinds of exceptions
        return False


def is_legacy(content: bytes) -> bool:
    """Whether a pickle is the first of a file in torch.save's legacy format."""
    try:
        found = (arg for op, arg, _ in pickletools.genops(content) if op.name in _NUMBERS)
        return next(found, None) == _MAGIC
    except Exception:  # damage raises many kinds of exceptions
        return False


def is_read_of_legacy(file: BinaryIO) -> bool:
    """Whether ``weights_only`` reads a file in torch.save's legacy format (see ``is_read``)."""
    return _are_read(file for _ in range(_LEGACY_PICKLES))


def is_read_of_archive(file: BinaryIO) -> bool:
    """Whether ``weights_only`` reads an archive of torch.save (see ``is_read``)."""
    with zipfile.ZipFile(file) as archive:
        records = [one for one in archive.infolist() if one.filename.endswith(_PICKLE)]
        return _are_read(io.BytesIO(_content(archive, record)) for record in records)


def _are_read(files: Iterable[BinaryIO]) -> bool:
    found = [is_read(file) for file in files]  # a list, as every pickle has to be checked
    return all(found)


def _content(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bytes:
    """Returns the content of a record, unchecked, as torch.save has an option to omit checksums."""
    del record.CRC
    return archive.read(record)


def is_read(file: BinaryIO) -> bool:
    """Whether ``weights_only`` reads a pickle without rewriting; moves the file behind the pickle.

    A tuple that contains the same tuple twice, nested 50 times, makes a small file. Hashing such a
    tuple as a dictionary key takes 2⁵⁰ steps, and so do functions of nested lists. Such pickles
    are rejected.

    Raises:
        ValueError: if objects are shared that often, or the pickle is damaged.
    """
    sizes, read = _Sizes(), True
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        read = read and opcode.name in _READ and argument not in _INSTEAD_OF
        if sizes.after(opcode, argument) > _MOST_SHARED * (number + 1000):
            raise ValueError("tuples or lists that contain others too many times")
    return read


class _Sizes:
    """Tracks the expanded size of each object on the stack; shared objects count repeatedly."""

    def __init__(self) -> None:
        self._stack: list[list[int]] = []  # each size is in a list, as an object may grow
        self._marks: list[int] = []
        self._memo: dict[Any, list[int]] = {}

    def after(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Updates the stack; returns the size of an object composed by the opcode, or 0."""
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _PUTS or name == "MEMOIZE":
            number = len(self._memo) if argument is None else argument
            self._memo[number] = self._stack[-1]
        elif name in _GETS:
            self._stack.append(self._memo.get(argument, [1]))
        else:
            taken = self._take(opcode.stack_before)
            size = 1 + sum(number for (number,) in taken)
            if name in _FILL:
                taken[0][0] = size
            made = taken[0] if name in _FILL else [size if name in _COMPOSE else 1]
            self._stack += [made] * len(opcode.stack_after)
            return size if name in _COMPOSE else 0
        return 0

    def _take(self, kinds: list[pickletools.StackObject]) -> list[list[int]]:
        count = len(kinds)
        if pickletools.markobject in kinds:
            count = kinds.index(pickletools.markobject) + len(self._stack) - self._marks.pop()
        start = len(self._stack) - count
        if start < 0:
            raise ValueError("it pops an empty stack")
        taken, self._stack[start:] = self._stack[start:], []
        return taken


def legacy_in_protocol_2(content: bytes) -> bytes:
    """Rewrites the pickles of a file in torch.save's legacy format in protocol 2.

    Raises:
        ValueError: if a pickle cannot be expressed in protocol 2.
    """
    file = io.BytesIO(content)
    pickles = [in_protocol_2(file) for _ in range(_LEGACY_PICKLES)]
    return b"".join([*pickles, file.read()])


def archive_in_protocol_2(content: bytes) -> bytes:
    """Rewrites the pickle of an archive of torch.save in protocol 2.

    Raises:
        ValueError: if the pickle cannot be expressed in protocol 2.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for record in old.infolist():
            data = _content(old, record)
            if record.filename.endswith(_PICKLE):
                data = in_protocol_2(io.BytesIO(data))
            new.writestr(record.filename, data)
    return result.getvalue()


def archive_of(content: bytes) -> bytes:
    """Wraps a single pickle in an archive in the format of torch.save.

    Raises:
        ValueError: if the pickle cannot be expressed in protocol 2.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        archive.writestr(f"archive/{_PICKLE}", in_protocol_2(io.BytesIO(content)))
        archive.writestr("archive/version", "3\n")
    return result.getvalue()


def in_protocol_2(file: io.BytesIO) -> bytes:
    """Reads one pickle and rewrites it in protocol 2.

    Raises:
        ValueError: if the pickle cannot be expressed in protocol 2, or is damaged.
    """
    return b"".join([pickle.PROTO + b"\2", *_Translation().of(file)])


class _Translation:
    """The opcodes written so far and the state of the translation."""

    def __init__(self) -> None:
        self._code: list[tuple[bytes, str | None]] = []  # with the text of opcodes for texts
        self._texts: dict[int, str] = {}  # memoized texts; each use writes the text again
        self._memo: set[int] = set()

    def of(self, file: io.BytesIO) -> Iterator[bytes]:
        """Returns the translated code of one pickle."""
        for opcode, argument, _ in pickletools.genops(file):
            self._add(opcode.name, opcode.code.encode("latin-1"), argument)
        return (code for code, _ in self._code)

    def _add(self, name: str, code: bytes, argument: object) -> None:
        if name in ("PROTO", "FRAME"):
            return
        if name in _SAME or name in _INSTEAD:
            self._code.append((_INSTEAD.get(name, code), None))
        elif name in _TEXTS and isinstance(argument, str):
            self._code.append(_text(argument))
        elif name in _OLD_STRINGS and isinstance(argument, str):
            ascii = argument.isascii()
            self._code.append(_text(argument) if ascii else (_bytes(argument), None))
        elif name in _BYTES and isinstance(argument, bytes | bytearray):
            self._code.append((_bytes(argument.decode("latin-1")), None))
        elif name in _NUMBERS and isinstance(argument, int):
            self._code.append((_number(argument), None))
        elif name in ("FLOAT", "BINFLOAT") and isinstance(argument, float):
            self._code.append((pickle.BINFLOAT + struct.pack(">d", argument), None))
        elif name in _PUTS and isinstance(argument, int):
            self._put(argument)
        elif name == "MEMOIZE":
            self._put(len(self._memo))
        elif name in _GETS and isinstance(argument, int):
            text = self._texts.get(argument)
            get = pickle.LONG_BINGET + struct.pack("<I", argument)
            self._code.append((get, None) if text is None else _text(text))
        elif name == "GLOBAL" and isinstance(argument, str):
            self._code.append((_global(*argument.split(" ", 1)), None))
        elif name == "STACK_GLOBAL":
            (_, module), (_, attribute) = self._last(2)
            if module is None or attribute is None:
                raise ValueError("it has a computed name")
            self._code[-2:] = [(_global(module, attribute), None)]
        elif name in _FROM_MARK and self._last(1)[0][0] == pickle.MARK:
            self._code[-1:] = [(_FROM_MARK[name], None)]
        else:
            raise ValueError(f"it has the opcode {name}")

    def _last(self, count: int) -> list[tuple[bytes, str | None]]:
        if len(self._code) < count:
            raise ValueError("it pops an empty stack")
        return self._code[-count:]

    def _put(self, number: int) -> None:
        """Memoizes the last object under a number."""
        ((_, text),) = self._last(1)
        self._memo.add(number)
        self._texts.pop(number, None)
        # Texts are repeated instead of memoized, so that STACK_GLOBAL can replace their opcodes.
        if text is None:
            self._code.append((pickle.LONG_BINPUT + struct.pack("<I", number), None))
        else:
            self._texts[number] = text


def _text(text: str) -> tuple[bytes, str]:
    data = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data, text


def _bytes(characters: str) -> bytes:
    """Returns the code for bytes, which are given as Latin-1 characters.

    Protocol 2 has no opcode for bytes; Python writes bytes as a call of ``_codecs.encode``.
    """
    word, _ = _text(characters)
    encoding, _ = _text("latin1")
    encode = _global("_codecs", "encode")
    return encode + word + encoding + pickle.TUPLE2 + pickle.REDUCE


def _number(number: int) -> bytes:
    if isinstance(number, bool):
        return pickle.NEWTRUE if number else pickle.NEWFALSE
    if -(2**31) <= number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    data = pickle.encode_long(number)
    if len(data) > 255:
        raise ValueError("it has an integer of more than 255 bytes")
    return pickle.LONG1 + bytes([len(data)]) + data


def _global(module: str, attribute: str) -> bytes:
    if "\n" in module + attribute:
        raise ValueError("it has a name of several lines")
    name = f"{module} {attribute}"
    return pickle.GLOBAL + _INSTEAD_OF.get(name, name).replace(" ", "\n", 1).encode() + b"\n"
