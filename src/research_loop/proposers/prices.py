"""What tokens cost by the list prices of genai-prices, where that package is installed: an estimate, never a bill."""

from __future__ import annotations

import importlib
from typing import Any


def estimate(model: str, tokens_in: int, tokens_out: int, cached: int = 0) -> float | None:
    """US dollars for a model by its full name; None for an unknown one or without the package.

    `cached` are those of `tokens_in` that were read from a cache, at a lower price.
    """
    try:
        prices: Any = importlib.import_module("genai_prices")
    except ImportError:
        return None
    try:
        usage = prices.Usage(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)
        return float(prices.calc_price(usage, model).total_price)
    except (LookupError, ValueError):  # a model that it does not know; more cached than read
        return None
