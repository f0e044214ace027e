import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

def simulate(
    seed: int,
    stream: int,
    first: int,
    drivers: int,
    start: npt.NDArray[np.int64],
    column: npt.NDArray[np.int32],
    value: Floats,
    mean: Floats,
    shape: float,
    numerator: float,
    antithetic: bool,
    out: Floats,
) -> None: ...
def transform(
    given: Floats,
    gamma: Floats | None,
    drivers: int,
    start: npt.NDArray[np.int64],
    column: npt.NDArray[np.int32],
    value: Floats,
    mean: Floats,
    numerator: float,
    uniform: bool,
    antithetic: bool,
    out: Floats,
) -> None: ...
def gammas(seed: int, stream: int, first: int, shape: float, out: Floats) -> None: ...
def words(seed: int, stream: int, draw: int, first: int, out: npt.NDArray[np.uint32]) -> None: ...
def lower_root(matrix: Floats, out: Floats) -> int: ...
