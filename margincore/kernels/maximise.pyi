import numpy as np
import numpy.typing as npt

from margincore.kernels.likelihood import Likelihood
from margincore.units import Floats

STATUS: tuple[str, ...]

def fit(problem: Likelihood, returns: Floats, theta: Floats, info: Floats, status: npt.NDArray[np.int32], begin: int,
        end: int) -> None: ...
