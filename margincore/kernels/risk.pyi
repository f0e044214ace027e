import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

def worst_losses(pnl: Floats, out: Floats, scenario: npt.NDArray[np.int32]) -> None: ...
