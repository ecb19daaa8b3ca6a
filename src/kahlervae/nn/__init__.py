"""Complex-valued layers."""

from kahlervae.nn.layers import (
    ComplexLinear,
    HolomorphicNetwork,
    HolomorphicQuadratic,
    RealInput,
    RealOutput,
    SmoothCardioid,
    hidden,
)
from kahlervae.nn.precision import OnePrecision, to_double
from kahlervae.nn.skeleton import skeleton

__all__ = [
    "ComplexLinear",
    "HolomorphicNetwork",
    "HolomorphicQuadratic",
    "OnePrecision",
    "RealInput",
    "RealOutput",
    "SmoothCardioid",
    "hidden",
    "skeleton",
    "to_double",
]
