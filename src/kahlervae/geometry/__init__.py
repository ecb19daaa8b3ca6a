"""Kähler geometry of a decoder.

Everything here takes a decoder – any callable from latents z of shape (n, d) to a distribution over
data, row by row: one of :mod:`kahlervae.models.likelihoods` or of ``torch.distributions`` – and
tensors; nothing knows of data sets or files.

Conventions: z = a + ib, ∂ = ½(∂/∂a − i ∂/∂b); a metric is a Hermitian tensor G of shape (n, d, d)
with G[:, i, j] = g(∂_i, ∂̄_j).
"""

from kahlervae.geometry.agreement import (
    affine_invariant_distance,
    best_constant_metric,
    relative_error,
)
from kahlervae.geometry.check import check_decoder
from kahlervae.geometry.curvature import log_det, ricci, scalar_curvature, volume_element
from kahlervae.geometry.distance import distance, distances, nearest
from kahlervae.geometry.estimate import estimate_closedness_defect, estimate_hermitian_defect
from kahlervae.geometry.exponential import (
    kahler_residual,
    log_partition,
    mean_statistics,
    natural_parameters,
    register_family,
)
from kahlervae.geometry.fisher import fisher_form, fisher_metric, fisher_norm, fisher_relation
from kahlervae.geometry.fit import (
    calibrate_anchor_potential,
    calibrate_posterior_potential,
    continue_fit,
    fit_potential,
    polish_potential,
    potential_error,
)
from kahlervae.geometry.geodesic import curve_energy, curve_length, geodesics
from kahlervae.geometry.holomorphic import HolomorphicPotential
from kahlervae.geometry.information import register_fisher
from kahlervae.geometry.kahler import closedness_defect, hermitian_defect, smallest_eigenvalue
from kahlervae.geometry.latents import complexify, to_complex, to_real
from kahlervae.geometry.log_partition_potential import LogPartitionPotential, exact_potential
from kahlervae.geometry.manifold import Manifold
from kahlervae.geometry.mixture import MixturePotential
from kahlervae.geometry.potential import Potential
from kahlervae.geometry.relative_entropy import relative_entropy, relative_entropy_metric
from kahlervae.geometry.total_covariance import MixtureDecoder
from kahlervae.geometry.wirtinger import (
    hermitian_part,
    holomorphic_part,
    mixed_hessian,
    pushforward,
    real_hessian,
    wirtinger,
)

__all__ = [
    "HolomorphicPotential",
    "LogPartitionPotential",
    "Manifold",
    "MixtureDecoder",
    "MixturePotential",
    "Potential",
    "affine_invariant_distance",
    "best_constant_metric",
    "calibrate_anchor_potential",
    "calibrate_posterior_potential",
    "check_decoder",
    "closedness_defect",
    "complexify",
    "continue_fit",
    "curve_energy",
    "curve_length",
    "distance",
    "distances",
    "estimate_closedness_defect",
    "estimate_hermitian_defect",
    "exact_potential",
    "fisher_form",
    "fisher_metric",
    "fisher_norm",
    "fisher_relation",
    "fit_potential",
    "geodesics",
    "hermitian_defect",
    "hermitian_part",
    "holomorphic_part",
    "kahler_residual",
    "log_det",
    "log_partition",
    "mean_statistics",
    "mixed_hessian",
    "natural_parameters",
    "nearest",
    "polish_potential",
    "potential_error",
    "pushforward",
    "real_hessian",
    "register_family",
    "register_fisher",
    "relative_entropy",
    "relative_entropy_metric",
    "relative_error",
    "ricci",
    "scalar_curvature",
    "smallest_eigenvalue",
    "to_complex",
    "to_real",
    "volume_element",
    "wirtinger",
]
