from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

STAGES: tuple[str, ...]

class Plan:
    def __init__(
        self,
        columns: int,
        assets: int,
        stages: Sequence[tuple[str, str, Sequence[float], npt.NDArray[np.float64] | None]],
    ) -> None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
