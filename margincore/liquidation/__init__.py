"""What happens at the end of margin: prices of liquidation and bankruptcy."""

from margincore.liquidation.prices import (
    PositionPrices,
    PriceStatus,
    bankruptcy_price,
    liquidation_price,
    position_prices,
)

__all__ = ["PositionPrices", "PriceStatus", "bankruptcy_price", "liquidation_price", "position_prices"]
