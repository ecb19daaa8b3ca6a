"""Complex-valued layers."""

from kahlervae.nn.layers import (
    ComplexLinear,
    HolomorphicQuadratic,
    RealInput,
    RealOutput,
    SmoothCardioid,
    hidden,
)
from kahlervae.nn.precision import to_double

__all__ = [
    "ComplexLinear",
    "HolomorphicQuadratic",
    "RealInput",
    "RealOutput",
    "SmoothCardioid",
    "hidden",
    "to_double",
]
