import numpy as np
import numpy.typing as npt

def position_prices(
    quantity: npt.ArrayLike,
    entry: npt.ArrayLike,
    fund: npt.ArrayLike,
    other_maintenance: npt.ArrayLike,
    fee: npt.ArrayLike,
    inverse: npt.ArrayLike,
    on_entry: npt.ArrayLike,
    table: npt.ArrayLike,
    lines: npt.ArrayLike,
    liquidation: npt.NDArray[np.float64],
    bankruptcy: npt.NDArray[np.float64],
    status: npt.NDArray[np.uint8],
) -> None: ...
