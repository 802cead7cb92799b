"""Samples the NVIDIA GPUs of this host through NVML.

Owns the metric names and what to do when the driver refuses. All GPUs of the host are sampled, by NVML's
index: CUDA_VISIBLE_DEVICES is NOT applied, since these are metrics of the host.
Never raises: a missing library, a missing driver or a GPU that falls off the bus are states, not errors.
Not thread-safe; to be created in the process that samples, since NVML does not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from thalweg.system.host import CounterRates

__all__ = ["GpuSampler"]

# nvmlReturn_t. The numbers are part of NVML's binary interface.
_NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_DRIVER_NOT_LOADED = 9
_LIBRARY_NOT_FOUND = 12
_FUNCTION_NOT_FOUND = 13
_GPU_IS_LOST = 15
_RESET_REQUIRED = 16
_LIB_RM_VERSION_MISMATCH = 18
_ARGUMENT_VERSION_MISMATCH = 25
_DEPRECATED = 26
_GPU_NOT_FOUND = 28

# Asking again would give the same answer as long as this driver is loaded.
_PERMANENT = frozenset({_NOT_SUPPORTED, _NO_PERMISSION, _FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH, _DEPRECATED})
_LOST = frozenset({_GPU_IS_LOST, _RESET_REQUIRED, _GPU_NOT_FOUND})

_INIT_REASONS = {
    _DRIVER_NOT_LOADED: "no_driver",
    _LIBRARY_NOT_FOUND: "no_driver",
    _NO_PERMISSION: "no_permission",
    _LIB_RM_VERSION_MISMATCH: "driver_mismatch",
    _GPU_IS_LOST: "gpu_lost",
}

# Bits of nvmlDeviceGetCurrentClocksEventReasons.
_POWER_BITS = 0x04 | 0x80  # software power cap, hardware power brake
_THERMAL_BITS = 0x20 | 0x40  # software and hardware thermal slowdown
_HW_SLOWDOWN_BIT = 0x08

_NVLINK_ALL_LINKS = 0xFFFFFFFF  # the scope that sums over the links

_Reading = Callable[[Any, Any], Mapping[str, float]]  # (nvml, handle) -> metrics


class GpuSampler:
    """Metrics of every GPU of the host. `unavailable_reason` is None while there is something to sample.

    One of: `no_pynvml`, `no_driver`, `driver_mismatch`, `no_permission`, `gpu_lost`, `no_gpus`,
    `init_failed`, `closed`. `nvml` is the module `pynvml` or something with its functions; by default it is
    imported here.
    """

    def __init__(self, nvml: Any = None) -> None:
        self.unavailable_reason: str | None = None
        self._handles: dict[int, Any] = {}
        self._lost: set[int] = set()
        self._refused: set[tuple[int, str]] = set()
        self._rates = CounterRates()
        self._nvml = nvml if nvml is not None else _import_nvml()
        self._is_initialised = False
        if self._nvml is None:
            self.unavailable_reason = "no_pynvml"
            return
        try:
            self._nvml.nvmlInit()
            self._is_initialised = True
            count = int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            self.unavailable_reason = _INIT_REASONS.get(_code(error), "init_failed")
            return
        if count == 0:
            self.unavailable_reason = "no_gpus"
        for index in range(count):
            self._open(index)
        if count > 0 and not self._handles and not self._lost:  # a container that was given none of them
            self.unavailable_reason = "no_permission"

    def _open(self, index: int) -> None:
        try:
            self._handles[index] = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError as error:
            # Any other refusal: a container that was given other GPUs. There is nothing to say of this one.
            if _code(error) in _LOST:
                self._lost.add(index)

    def sample(self, now_s: float | None = None) -> dict[str, float]:
        """All metrics that can be read now, named `system/gpu/<index>/<what>_<unit>`. Empty when unavailable.

        `now_s`: a monotonic clock in seconds; without it there are no NVLink rates. A GPU that fell off the
        bus shows one metric only, `is_lost` = 1; it is not asked again.
        """
        if self.unavailable_reason is not None:
            return {}
        metrics: dict[str, float] = {}
        for index, handle in self._handles.items():
            if index in self._lost:
                continue
            found = self._sample_one(index, handle, now_s)
            if index not in self._lost:
                metrics.update((f"system/gpu/{index}/{name}", float(value)) for name, value in found.items())
        metrics.update((f"system/gpu/{index}/is_lost", 1.0) for index in sorted(self._lost))
        return metrics

    def _sample_one(self, index: int, handle: Any, now_s: float | None) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, reading in _READINGS.items():
            metrics.update(self._ask(index, name, partial(reading, self._nvml, handle)) or {})
            if index in self._lost:
                return {}
        if now_s is not None:
            counters = self._ask(index, "nvlink", partial(_nvlink_bytes, self._nvml, handle)) or {}
            for name, total_bytes in counters.items():
                rate = self._rates.per_second(f"{index}/{name}", {"all": total_bytes}, now_s)
                if rate is not None:
                    metrics[f"{name}_bytes_per_second"] = rate
        return metrics

    def _ask(self, index: int, name: str, read: Callable[[], Any]) -> Any:
        """The answer, or None. Remembers what this GPU refuses for good, and that it is lost."""
        if (index, name) in self._refused:
            return None
        try:
            return read()
        except AttributeError:  # a pynvml older than the function
            self._refused.add((index, name))
        except self._nvml.NVMLError as error:
            code = _code(error)
            if code in _PERMANENT:
                self._refused.add((index, name))
            elif code in _LOST:
                self._lost.add(index)
        return None

    def describe(self) -> list[dict[str, Any]]:
        """One dict per GPU: `index`, `name`, `uuid`, `memory_total_bytes`, `driver_version`,
        `cuda_driver_version` (such as "12.4": the newest CUDA that this driver runs). What cannot be read is
        None. Empty when unavailable."""
        if self.unavailable_reason is not None:
            return []
        driver = self._ask(-1, "driver", self._nvml_call("nvmlSystemGetDriverVersion"))
        cuda = self._ask(-1, "cuda", self._nvml_call("nvmlSystemGetCudaDriverVersion"))
        return [
            {
                "index": index,
                "name": _text(self._ask(index, "name", self._nvml_call("nvmlDeviceGetName", handle))),
                "uuid": _text(self._ask(index, "uuid", self._nvml_call("nvmlDeviceGetUUID", handle))),
                "memory_total_bytes": self._memory_total_bytes(index, handle),
                "driver_version": _text(driver),
                "cuda_driver_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            }
            for index, handle in self._handles.items()
        ]

    def _nvml_call(self, function: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: getattr(self._nvml, function)(*arguments)

    def _memory_total_bytes(self, index: int, handle: Any) -> int | None:
        found = self._ask(index, "memory", partial(_memory, self._nvml, handle))
        return None if found is None else int(found["memory_total_bytes"])

    def close(self) -> None:
        """Gives NVML back. The sampler is unavailable from then on. May be called again."""
        if self._is_initialised:
            self._is_initialised = False
            with contextlib.suppress(self._nvml.NVMLError):  # the driver has gone before us
                self._nvml.nvmlShutdown()
        self.unavailable_reason = self.unavailable_reason or "closed"


def _import_nvml() -> Any:
    """The module `pynvml`, or None. Of the two distributions that bring it, the older warns when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("pynvml")
        except ImportError:
            return None


def _code(error: Any) -> int:
    return int(getattr(error, "value", 999))


def _text(value: Any) -> str | None:
    """Older bindings answer bytes."""
    return None if value is None else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _utilization(nvml: Any, handle: Any) -> Mapping[str, float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"utilization_percent": rates.gpu, "memory_utilization_percent": rates.memory}


def _memory(nvml: Any, handle: Any) -> Mapping[str, float]:
    # Version 1 counts what the driver reserves as used; nvidia-smi shows version 2.
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except (AttributeError, TypeError):  # a pynvml older than version 2
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if _code(error) not in (_FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH):  # a driver older than that
            raise
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}


def _power(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _power_limit(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"power_limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000}


def _temperature(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"temperature_celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}


def _sm_clock(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)}


def _ecc_uncorrected(nvml: Any, handle: Any) -> Mapping[str, float]:
    # Volatile: since the driver was loaded. The life-time sum would accuse a run of older errors.
    kind = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    return {"ecc_errors_uncorrected": nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC)}


def _ecc_corrected(nvml: Any, handle: Any) -> Mapping[str, float]:
    kind = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
    return {"ecc_errors_corrected": nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC)}


def _throttle(nvml: Any, handle: Any) -> Mapping[str, float]:
    # The same call under its older name, which every driver and binding has.
    bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return {
        "throttle_reasons": bits,
        "throttle_thermal": bool(bits & _THERMAL_BITS),
        "throttle_power": bool(bits & _POWER_BITS),
        "throttle_hw_slowdown": bool(bits & _HW_SLOWDOWN_BIT),
    }


def _nvlink_bytes(nvml: Any, handle: Any) -> Mapping[str, float]:
    """Payload over all links since the driver was loaded. (PCIe is left out: NVML measures it for 20 ms per
    direction and GPU.)"""
    fields = {
        "nvlink_sent": nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
        "nvlink_received": nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
    }
    values = nvml.nvmlDeviceGetFieldValues(handle, [(field, _NVLINK_ALL_LINKS) for field in fields.values()])
    for value in values:
        if value.nvmlReturn != 0:
            raise nvml.NVMLError(value.nvmlReturn)
    return {name: value.value.ullVal * 1024 for name, value in zip(fields, values, strict=True)}  # KiB


_READINGS: Mapping[str, _Reading] = {
    "utilization": _utilization,
    "memory": _memory,
    "power": _power,
    "power_limit": _power_limit,
    "temperature": _temperature,
    "sm_clock": _sm_clock,
    "ecc_uncorrected": _ecc_uncorrected,
    "ecc_corrected": _ecc_corrected,
    "throttle": _throttle,
}
