from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

def unit_values(
    contracts: Any,
    market: Any,
    scenarios: Any,
    shocked: Floats,
    conversion: Floats,
    first: int,
    last: int,
    value: Floats,
    risk: Floats,
) -> None: ...
def option_marks(
    contracts: Any, forward: Floats, years: Floats, sigma: Floats, discount: Floats, out: Floats
) -> None: ...
