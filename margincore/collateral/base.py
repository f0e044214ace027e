"""What every collateral rule answers."""

from __future__ import annotations

from typing import Protocol


class CollateralRule(Protocol):
    """Share of an asset's positive equity that counts as margin; a debt always counts in full."""

    @property
    def kept(self) -> float:
        """Share that counts, in [0, 1]: one minus the haircut."""
        ...
