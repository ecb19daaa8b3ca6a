"""Complex-valued layers."""

from kahlervae.nn.layers import ComplexLinear, RealInput, RealOutput, SmoothCardioid
from kahlervae.nn.precision import to_double

__all__ = ["ComplexLinear", "RealInput", "RealOutput", "SmoothCardioid", "to_double"]
