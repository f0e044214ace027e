"""What a record of benchmarks says of the machine besides its processor."""

from typing import Any

from margincore import kernels


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info["level"] = kernels.level
