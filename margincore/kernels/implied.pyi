import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

def volatilities(
    premium: Floats, forward: Floats, strike: Floats, years: Floats, is_call: Flags, out: Floats,
    status: npt.NDArray[np.uint8], inverse: bool = False,
) -> None: ...
def volatility(
    premium: float, forward: float, strike: float, years: float, is_call: bool, inverse: bool = False
) -> float: ...
