"""One thread for every peer, before NumPy starts more of its own, and what a record says of the machine's kernels."""

import os
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from margincore import kernels  # noqa: E402  (imports NumPy)


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info["level"] = kernels.level
