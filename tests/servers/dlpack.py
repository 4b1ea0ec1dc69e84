"""bfloat16 in Triton's Python backend, which has it in DLPack only: to bits for numpy, and back. No model here.

The layout is that of ``DLManagedTensor`` in DLPack's ``dlpack.h``, version 0.8.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import numpy as np

UINT, BFLOAT = 1, 4
"""DLPack's codes of kinds of numbers."""

BITS = 16
CPU = (1, 0)
"""DLPack's device."""

_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_keep_all = _Deleter(lambda _: None)
_alive: deque[tuple[object, ...]] = deque(maxlen=64)
"""What Triton may still read: it copies the tensors of an answer when ``execute`` has returned; calls come singly."""


class _Bits:
    """The same tensor as unsigned integers: numpy knows no bfloat16."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule
        _Managed.from_address(_pointer(capsule, b"dltensor")).code = UINT

    def __dlpack__(self, stream: object = None) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


def bits_of(capsule: object) -> Any:
    """The bits of a tensor of bfloat16, as uint16."""
    return np.from_dlpack(_Bits(capsule))  # type: ignore[arg-type]


def capsule_of(bits: Any) -> object:
    """A tensor of bfloat16 with these bits."""
    bits = np.ascontiguousarray(bits, np.uint16)
    shape = (ctypes.c_int64 * bits.ndim)(*bits.shape)
    device = (ctypes.c_int32 * 2)(*CPU)
    at = ctypes.addressof(shape)
    tensor = _Managed(bits.ctypes.data, device, bits.ndim, BFLOAT, BITS, 1, at, None, 0, None, _keep_all)
    _alive.append((bits, shape, tensor))
    return _capsule(ctypes.addressof(tensor), b"dltensor", None)
