"""The one pickled file that this field passes around, read without running any of it.

``cls_labels.npy`` is a dict of image -> vector of 0 and 1, pickled inside a numpy file. The few
names that such a pickle may use are given stand-ins of our own, so that not even numpy's C code
sees what a stranger wrote, and only the opcodes that such a pickle needs are obeyed.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from wsseg.errors import UnsafeError, WssegError

MAX_BYTES = 1 << 30
_DTYPE = re.compile(r"([biuf][1248]|U\d{1,4}|O8?)")


class _Dtype:
    """Stands for numpy.dtype: a type code and a byte order."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"unexpected dtype {code!r:.40}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("unexpected byte order")
        self.order = state[1]

    def values(self, data: Any) -> np.ndarray:
        """Return bytes (text in pickles of Python 2) as a flat array."""
        if self.code.startswith("O"):
            raise ValueError("objects where numbers are expected")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(raw, self.order.replace("|", "=") + self.code)


class _Array:
    """Stands for numpy.ndarray; ``state`` is what numpy would have restored it from."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)

    def content(self) -> Any:
        """Return the dict of a 0-d array of objects, or a vector of numbers."""
        _, shape, dtype, _, data = self.state
        if isinstance(dtype, _Dtype) and dtype.code.startswith("O") and shape == ():
            return data[0]
        values = dtype.values(data)
        if tuple(shape) != values.shape:
            raise ValueError(f"a vector is expected, not shape {shape}")
        return values


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return dtype.values(data)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise ValueError(f"unexpected encoding {encoding!r:.40}")
    return text.encode("latin1")


_ALLOWED = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _encode}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_core, "_reconstruct"] = _reconstruct
    _ALLOWED[_core, "scalar"] = _scalar


#: The opcodes in which protocols 0 to 4 write such a dict. All others are refused, above all
#: those that look up extensions, build other objects, or reserve as much memory as they ask for.
_OPCODES = (
    pickle.PROTO + pickle.FRAME + pickle.STOP + pickle.MARK + pickle.GLOBAL + pickle.STACK_GLOBAL
    + pickle.REDUCE + pickle.BUILD + pickle.EMPTY_DICT + pickle.DICT + pickle.SETITEM
    + pickle.SETITEMS + pickle.EMPTY_LIST + pickle.LIST + pickle.APPEND + pickle.APPENDS
    + pickle.EMPTY_TUPLE + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
    + pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE + pickle.INT + pickle.LONG + pickle.LONG1
    + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.STRING + pickle.BINSTRING
    + pickle.SHORT_BINSTRING + pickle.UNICODE + pickle.BINUNICODE + pickle.SHORT_BINUNICODE
    + pickle.BINBYTES + pickle.SHORT_BINBYTES + pickle.PUT + pickle.BINPUT + pickle.LONG_BINPUT
    + pickle.GET + pickle.BINGET + pickle.LONG_BINGET + pickle.MEMOIZE)


class _Dispatch(dict):
    """Opcode -> method, where other opcodes of pickle are unsafe and others yet are damage."""

    def __missing__(self, op: int) -> Any:
        if op in pickle._Unpickler.dispatch:
            raise UnsafeError(f"pickle with opcode {bytes([op])!r} refused: a file of image tags "
                              "needs nothing but numpy arrays")
        raise ValueError(f"no opcode {op}")


class _Unpickler(pickle._Unpickler):  # the Python one: the C one reserves memory on request
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch = _Dispatch({op: pickle._Unpickler.dispatch[op] for op in _OPCODES})

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafeError(f"pickle that calls {module}.{name} refused: a file of image tags "
                              "needs nothing but numpy arrays") from None

    def _build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Array, _Dtype):
            raise ValueError("a state for what is no array")
        self.stack[-1].__setstate__(state)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _set_items(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        keys = items[::2]
        if not all(type(key) in (str, int) for key in keys):  # hashing others may take for ever
            raise ValueError("a key that is neither text nor a whole number")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def _empty_dict(self) -> None:
        if self.pop_mark():
            raise ValueError("a dict that is not filled item by item")
        self.stack.append({})

    dispatch.update({pickle.BUILD[0]: _build, pickle.SETITEM[0]: _set_item,
                     pickle.SETITEMS[0]: _set_items, pickle.DICT[0]: _empty_dict})


def read_pickled_dict(data: bytes, where: str) -> dict[Any, Any]:
    """Return the dict in a pickled .npy file; its values are still to be read by ``vector``.

    Raises UnsafeError for a pickle that names anything but what numpy's arrays need,
    WssegError for a file that is damaged or holds no dict.
    """
    if len(data) > MAX_BYTES:
        raise WssegError(f"{where}: more than {MAX_BYTES} bytes")
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                       else np.lib.format.read_array_header_2_0)
        shape, _, dtype = read_header(stream)
        if dtype != object or shape != ():
            raise ValueError(f"an array of {dtype}, not a pickled dict")
        array = _Unpickler(stream, encoding="latin1").load()
        content = array.content()
    except UnsafeError as error:
        raise UnsafeError(f"{where}: {error}") from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise WssegError(f"{where}: not a pickled file of image tags ({type(error).__name__}: "
                         f"{error})") from None
    if not isinstance(content, dict):
        raise WssegError(f"{where}: holds a {type(content).__name__}, not a dict of image tags")
    return content


def vector(value: Any) -> np.ndarray:
    """Return one entry's numbers, (N,). Raises ValueError when it is no vector."""
    try:
        return value.content()
    except (AttributeError, TypeError) as error:
        raise ValueError(f"no vector ({error})") from None
