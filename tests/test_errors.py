"""Which errors say that a device is full."""

from __future__ import annotations

import pytest
import torch

from sam2kit.errors import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        torch.OutOfMemoryError("the device is full, and there is no smaller step to take"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.02 GB, max allowed: 18.13 GB)"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate 3.00 GiB for an array"),
    ],
)
def test_a_full_device(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("the book is called out of memory"),
        "CUDA out of memory",
        None,
    ],
)
def test_other_errors(error: object) -> None:
    assert not is_out_of_memory(error)
