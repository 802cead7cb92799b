"""Sampling against a small fake of the driver library, and the fake against the real `pynvml`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from thalweg.system.gpu import GpuSampler

NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 3, 4, 13, 15, 999


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"nvml {value}")
        self.value = value


@dataclass
class FakeNvml:
    """The part of `pynvml` that is used. Handles are indices; `failures` maps (function, index) to a code."""

    count: int = 1
    throttle_bits: int = 0
    nvlink_kib: int = 0
    failures: dict[tuple[str, int | None], int] = field(default_factory=dict)
    calls: list[tuple[str, int | None]] = field(default_factory=list)

    NVMLError = FakeNvmlError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_VOLATILE_ECC = 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139
    nvmlMemory_v2 = 0x02000028

    def _called(self, function: str, handle: int | None = None) -> None:
        self.calls.append((function, handle))
        code = self.failures.get((function, handle))
        if code is not None:
            raise FakeNvmlError(code)

    def nvmlInit(self) -> None:
        self._called("nvmlInit")

    def nvmlShutdown(self) -> None:
        self._called("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> bytes:
        self._called("nvmlSystemGetDriverVersion")
        return b"550.54.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        self._called("nvmlSystemGetCudaDriverVersion")
        return 12040

    def nvmlDeviceGetCount(self) -> int:
        self._called("nvmlDeviceGetCount")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._called("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        self._called("nvmlDeviceGetName", handle)
        return "NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        self._called("nvmlDeviceGetUUID", handle)
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        self._called("nvmlDeviceGetUtilizationRates", handle)
        return SimpleNamespace(gpu=97, memory=41)

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> SimpleNamespace:
        self._called("nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo", handle)
        return SimpleNamespace(used=60 << 30, total=80 << 30)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._called("nvmlDeviceGetPowerUsage", handle)
        return 612_345

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        self._called("nvmlDeviceGetEnforcedPowerLimit", handle)
        return 700_000

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._called("nvmlDeviceGetTemperature", handle)
        return 64

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        self._called("nvmlDeviceGetClockInfo", handle)
        return 1980

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> int:
        self._called("nvmlDeviceGetTotalEccErrors", handle)
        return 2 if kind == self.NVML_MEMORY_ERROR_TYPE_UNCORRECTED else 5

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        self._called("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return self.throttle_bits

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[tuple[int, int]]) -> list[SimpleNamespace]:
        self._called("nvmlDeviceGetFieldValues", handle)
        status = self.failures.get(("field", handle), 0)
        value = SimpleNamespace(ullVal=self.nvlink_kib)
        return [SimpleNamespace(nvmlReturn=status, value=value) for _ in fields]

    def count_calls(self, function: str, handle: int | None) -> int:
        return self.calls.count((function, handle))


def test_all_metrics_of_a_gpu() -> None:
    assert GpuSampler(FakeNvml()).sample() == {
        "system/gpu/0/utilization_percent": 97.0,
        "system/gpu/0/memory_utilization_percent": 41.0,
        "system/gpu/0/memory_used_bytes": float(60 << 30),
        "system/gpu/0/memory_total_bytes": float(80 << 30),
        "system/gpu/0/power_watts": 612.345,
        "system/gpu/0/power_limit_watts": 700.0,
        "system/gpu/0/temperature_celsius": 64.0,
        "system/gpu/0/sm_clock_mhz": 1980.0,
        "system/gpu/0/ecc_errors_uncorrected": 2.0,
        "system/gpu/0/ecc_errors_corrected": 5.0,
        "system/gpu/0/throttle_reasons": 0.0,
        "system/gpu/0/throttle_thermal": 0.0,
        "system/gpu/0/throttle_power": 0.0,
        "system/gpu/0/throttle_hw_slowdown": 0.0,
    }


def test_every_value_is_a_float_and_every_gpu_has_its_own_names() -> None:
    sample = GpuSampler(FakeNvml(count=8)).sample()
    assert {name.split("/")[2] for name in sample} == set("01234567")
    assert {type(value) for value in sample.values()} == {float}


@pytest.mark.parametrize(
    ("bits", "thermal", "power", "hw_slowdown"),
    [
        (0x01, 0, 0, 0),
        (0x04, 0, 1, 0),
        (0x80, 0, 1, 0),
        (0x20, 1, 0, 0),
        (0x48, 1, 0, 1),
        (0xFF, 1, 1, 1),
    ],
)
def test_throttle_reasons(bits: int, thermal: int, power: int, hw_slowdown: int) -> None:
    sample = GpuSampler(FakeNvml(throttle_bits=bits)).sample()
    assert sample["system/gpu/0/throttle_reasons"] == bits
    assert sample["system/gpu/0/throttle_thermal"] == thermal
    assert sample["system/gpu/0/throttle_power"] == power
    assert sample["system/gpu/0/throttle_hw_slowdown"] == hw_slowdown


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND])
def test_what_one_gpu_does_not_support_is_asked_once_and_of_the_others_still(code: int) -> None:
    nvml = FakeNvml(count=2, failures={("nvmlDeviceGetPowerUsage", 0): code})
    sampler = GpuSampler(nvml)
    for _ in range(3):
        sample = sampler.sample()
        assert "system/gpu/0/power_watts" not in sample
        assert "system/gpu/0/power_limit_watts" in sample
        assert "system/gpu/1/power_watts" in sample
    assert nvml.count_calls("nvmlDeviceGetPowerUsage", 0) == 1
    assert nvml.count_calls("nvmlDeviceGetPowerUsage", 1) == 3


def test_passing_failure_costs_one_value_once() -> None:
    nvml = FakeNvml(failures={("nvmlDeviceGetTemperature", 0): UNKNOWN})
    sampler = GpuSampler(nvml)
    assert "system/gpu/0/temperature_celsius" not in sampler.sample()
    nvml.failures.clear()
    assert "system/gpu/0/temperature_celsius" in sampler.sample()


def test_gpu_that_falls_off_the_bus_says_so_and_is_not_asked_again() -> None:
    nvml = FakeNvml(count=2)
    sampler = GpuSampler(nvml)
    sampler.sample()
    nvml.failures[("nvmlDeviceGetPowerUsage", 1)] = GPU_IS_LOST
    for _ in range(2):
        sample = sampler.sample()
        assert {name for name in sample if "/gpu/1/" in name} == {"system/gpu/1/is_lost"}
        assert sample["system/gpu/1/is_lost"] == 1.0
        assert "system/gpu/0/power_watts" in sample
    assert nvml.count_calls("nvmlDeviceGetPowerUsage", 1) == 2
    assert sampler.unavailable_reason is None


def test_gpu_that_was_lost_before_the_start() -> None:
    sampler = GpuSampler(FakeNvml(count=2, failures={("nvmlDeviceGetHandleByIndex", 0): GPU_IS_LOST}))
    sample = sampler.sample()
    assert sample["system/gpu/0/is_lost"] == 1.0
    assert "system/gpu/1/power_watts" in sample


def test_older_driver_without_version_2_of_memory() -> None:
    nvml = FakeNvml(failures={("nvmlDeviceGetMemoryInfo_v2", 0): FUNCTION_NOT_FOUND})
    assert GpuSampler(nvml).sample()["system/gpu/0/memory_used_bytes"] == 60 << 30


def test_older_binding_without_a_function() -> None:
    class OlderNvml(FakeNvml):
        @property
        def nvmlDeviceGetClockInfo(self) -> Any:
            raise AttributeError("nvmlDeviceGetClockInfo")

    sample = GpuSampler(OlderNvml()).sample()
    assert "system/gpu/0/sm_clock_mhz" not in sample
    assert "system/gpu/0/power_watts" in sample


def test_nvlink_rate_needs_two_samples_with_a_clock() -> None:
    nvml = FakeNvml(nvlink_kib=1_000)
    sampler = GpuSampler(nvml)
    assert "system/gpu/0/nvlink_sent_bytes_per_second" not in sampler.sample(10.0)
    nvml.nvlink_kib = 3_000
    sample = sampler.sample(12.0)
    assert sample["system/gpu/0/nvlink_sent_bytes_per_second"] == 1_000 * 1024
    assert sample["system/gpu/0/nvlink_received_bytes_per_second"] == 1_000 * 1024


def test_gpu_without_nvlink_is_asked_once() -> None:
    nvml = FakeNvml(failures={("field", 0): NOT_SUPPORTED})
    sampler = GpuSampler(nvml)
    sampler.sample(1.0)
    assert not [name for name in sampler.sample(2.0) if "nvlink" in name]
    assert nvml.count_calls("nvmlDeviceGetFieldValues", 0) == 1


def test_describe() -> None:
    nvml = FakeNvml(count=2, failures={("nvmlDeviceGetUUID", 1): NO_PERMISSION})
    first, second = GpuSampler(nvml).describe()
    assert first == {
        "index": 0,
        "name": "NVIDIA H100",
        "uuid": "GPU-0",
        "memory_total_bytes": 80 << 30,
        "driver_version": "550.54.15",
        "cuda_driver_version": "12.4",
    }
    assert second["uuid"] is None
    assert second["name"] == "NVIDIA H100"


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        ("nvmlInit", 9, "no_driver"),
        ("nvmlInit", 12, "no_driver"),
        ("nvmlInit", 18, "driver_mismatch"),
        ("nvmlInit", 4, "no_permission"),
        ("nvmlInit", 999, "init_failed"),
        ("nvmlDeviceGetCount", 15, "gpu_lost"),
    ],
)
def test_nvml_that_fails_to_initialise(function: str, code: int, reason: str) -> None:
    sampler = GpuSampler(FakeNvml(failures={(function, None): code}))
    assert sampler.unavailable_reason == reason
    assert sampler.sample(1.0) == {}
    assert sampler.describe() == []
    sampler.close()


def test_no_gpus_and_none_that_may_be_seen() -> None:
    assert GpuSampler(FakeNvml(count=0)).unavailable_reason == "no_gpus"
    nvml = FakeNvml(failures={("nvmlDeviceGetHandleByIndex", 0): NO_PERMISSION})
    assert GpuSampler(nvml).unavailable_reason == "no_permission"


def test_close_gives_nvml_back_once_and_ends_sampling() -> None:
    nvml = FakeNvml(failures={("nvmlShutdown", None): UNKNOWN})
    sampler = GpuSampler(nvml)
    sampler.close()
    sampler.close()
    assert nvml.count_calls("nvmlShutdown", None) == 1
    assert sampler.unavailable_reason == "closed"
    assert sampler.sample() == {}


def test_without_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # makes the import fail
    sampler = GpuSampler()
    assert sampler.unavailable_reason == "no_pynvml"
    assert sampler.sample() == {}
    sampler.close()


def test_the_real_library_with_or_without_a_driver_raises_nothing() -> None:
    pytest.importorskip("pynvml")
    sampler = GpuSampler()
    sample = sampler.sample()
    assert bool(sample) == bool(sampler.describe())
    assert sample or sampler.unavailable_reason is not None
    sampler.close()


def test_the_fake_has_the_names_and_numbers_of_the_real_library() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name in dir(FakeNvml):
        if name.startswith("nvml") and callable(getattr(FakeNvml, name)):
            assert callable(getattr(pynvml, name)), name
        elif name.startswith(("NVML_", "nvmlMemory")):
            assert getattr(FakeNvml, name) == getattr(pynvml, name), name
    assert [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ] == [3, 4, 9, 12, 13, 15, 18]
    assert pynvml.NVMLError(15).value == 15
    assert pynvml.nvmlClocksThrottleReasonSwPowerCap == 0x04
    assert pynvml.nvmlClocksThrottleReasonHwSlowdown == 0x08
    assert pynvml.nvmlClocksThrottleReasonSwThermalSlowdown == 0x20
    assert pynvml.nvmlClocksThrottleReasonHwThermalSlowdown == 0x40
    assert pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown == 0x80
