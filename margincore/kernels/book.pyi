import numpy as np
import numpy.typing as npt

class Book:
    def __init__(
        self,
        rows_max: int,
        slots_max: int,
        slots_first: int,
        assets: int,
        rank: npt.ArrayLike,
        settle: npt.ArrayLike,
        kind: npt.ArrayLike,
        multiplier: npt.ArrayLike,
        inverse: npt.ArrayLike,
    ) -> None: ...
    def set_columns(
        self,
        assets: int,
        rank: npt.ArrayLike,
        settle: npt.ArrayLike,
        kind: npt.ArrayLike,
        multiplier: npt.ArrayLike,
        inverse: npt.ArrayLike,
    ) -> None: ...
    @property
    def rows_used(self) -> int: ...
    @property
    def slots_used(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def open(self, initial_rate: float = 0.0, parent: int = -1) -> int: ...
    def close(self, row: int) -> None: ...
    def generation(self, row: int) -> int: ...
    def parent(self, row: int) -> int: ...
    def open_rows(self) -> npt.NDArray[np.int64]: ...
    def read(
        self, row: int
    ) -> tuple[
        npt.NDArray[np.int32],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
    ]: ...
    def quantity(self, row: int, column: int) -> float: ...
    def trade(self, row: int, column: int, quantity: float, price: float, fee: float = 0.0) -> None: ...
    def deposit(self, row: int, asset: int, amount: float) -> None: ...
    def set_orders(self, row: int, column: int, buy: float, sell: float) -> None: ...
    def settle(self, column: int, price: float) -> int: ...
    def fund(self, column: int, amount: float) -> int: ...
    def holders(self, column: int) -> int: ...
    def remap(
        self,
        column_to: npt.ArrayLike,
        assets: int,
        rank: npt.ArrayLike,
        settle: npt.ArrayLike,
        kind: npt.ArrayLike,
        multiplier: npt.ArrayLike,
        inverse: npt.ArrayLike,
    ) -> None: ...
    def load(
        self,
        start: npt.NDArray[np.int64],
        column: npt.NDArray[np.int32],
        quantity: npt.NDArray[np.float64],
        price: npt.NDArray[np.float64],
    ) -> int: ...
    def compact(self) -> None: ...
