from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from margincore.kernels.book import Book

@final
class MarginBook(Book):
    def forget_market(self) -> None: ...
    def set_plan(self, stages: Sequence[tuple[str, str, Sequence[float], npt.NDArray[np.float64] | None]]) -> None: ...
    def set_market(
        self,
        value: npt.ArrayLike,
        spot: npt.ArrayLike,
        kept: npt.ArrayLike,
        shocked: npt.ArrayLike,
        risk: npt.ArrayLike,
        group: npt.ArrayLike,
        offset_set: npt.ArrayLike,
        notional: npt.ArrayLike,
        charge_short: npt.ArrayLike,
        charge_any: npt.ArrayLike,
        floor_short: npt.ArrayLike,
    ) -> None: ...
    def status(self, row: int) -> int: ...
    def check(self, row: int) -> tuple[float, float, float, int]: ...
    def what_if(self, row: int, column: int, quantity: float, price: float, fee: float = 0.0) -> int: ...
    def what_if_many(
        self,
        row: int,
        column: npt.NDArray[np.int32],
        quantity: npt.NDArray[np.float64],
        price: npt.NDArray[np.float64],
        fee: npt.NDArray[np.float64] | None = None,
        bounded: bool = False,
    ) -> tuple[float, float, float, int, tuple[tuple[float, float, float], ...]]: ...
    def breached_range(self, first: int, last: int, status: npt.NDArray[np.uint8]) -> None: ...
    def check_range(
        self,
        first: int,
        last: int,
        status: npt.NDArray[np.uint8],
        equity: npt.NDArray[np.float64] | None = None,
        initial: npt.NDArray[np.float64] | None = None,
        maintenance: npt.NDArray[np.float64] | None = None,
    ) -> None: ...
    def repeat(self, row: int, times: int) -> int: ...
    @property
    def stages(self) -> tuple[str, ...]: ...
    def parts(self, row: int) -> tuple[tuple[float, float, float], ...]: ...
    def explain(
        self,
        row: int,
        column: npt.NDArray[np.int32],
        quantity: npt.NDArray[np.float64],
        price: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...
    def risk_of(self, column: int) -> npt.NDArray[np.float64]: ...
    def __init__(self, *args: Any) -> None: ...
