"""What makes other VAEs comparable with the project's: networks of one size, ELBOs in one unit.

It needs no pythae, so that the tests of the project hold it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae.data import Form
from kahlervae.models import build_model
from kahlervae.models.likelihoods import RealGaussian
from kahlervae.models.posteriors import Posterior
from kahlervae.seeding import generator

__all__ = ["matched_networks", "scores_at_best_variance"]


def matched_networks(
    image_shape: tuple[int, int], sizes: Mapping[str, Any], seed: int
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of the variant `real`, as its training starts from them.

    They are real MLPs with SiLU for a latent space of dimension 2d, of the width that gives them as
    many parameters as the complex networks have.

    Args:
        image_shape: height and width.
        sizes: the block ``model`` of the configuration; ``own_depth``, where the variant has one.
        seed: of the initial parameters.
    """
    torch.manual_seed(generator(seed, "initialise").initial_seed())
    identity = {"dataset": "", "representation": "pixels", "variant": "real", "seed": seed}
    model = build_model(identity, Form(image_shape), "real", **sizes)
    return model.encoder, model.decoder


@torch.no_grad()
def scores_at_best_variance(
    encode: Callable[[Float[Tensor, "n D"]], Posterior],
    decode: Callable[[Complex[Tensor, "n d"]], Float[Tensor, "n D"]],
    train: Float[Tensor, "m D"],
    test: Float[Tensor, "n D"],
    random: torch.Generator,
    learned_variance: float = math.nan,
    kl: Callable[[Posterior, Complex[Tensor, "n d"]], Float[Tensor, " n"]] | None = None,
) -> dict[str, float]:
    r"""How well a VAE encodes and reproduces test images, whatever variance it was trained with.

    The likelihood is :math:`N(\mu(z), \hat\sigma^2 I)` with the variance that makes the training
    images most likely,

    .. math:: \hat\sigma^2 = \frac{1}{mD} \sum_i |x_i - \mu(z_i)|^2, \qquad z_i \sim q(z \mid x_i).

    Args:
        encode: images to posteriors.
        decode: latents to means μ.
        train: images that the variance is fitted to.
        test: images that are scored.
        random: of the posterior samples, one an image.
        learned_variance: that the model has learned, where it learns one.
        kl: of posteriors to the model's prior, at draws of theirs; without it, that to N(0, I).

    Returns:
        ``elbo``, ``log_likelihood``, ``kl``, ``mse`` and ``latent_norm`` as in
        :func:`kahlervae.evaluate.reconstruction.reconstruction_scores`, and ``sigma`` for
        :math:`\hat\sigma`; ``learned_elbo`` is under ``learned_sigma`` instead, NaN without one.
    """
    posterior = encode(test)
    z = posterior.sample(random)
    mean = decode(z)

    def log_likelihood(variance: float) -> float:
        likelihood = RealGaussian(mean, torch.full_like(mean, math.log(variance)))
        return likelihood.log_prob(test).double().mean().item()

    error = train - decode(encode(train).sample(random))
    variance = error.double().square().mean().item()
    divergence = (kl(posterior, z) if kl else posterior.kl()).double().mean().item()
    centre = decode(posterior.mean).clamp(0, 1) - test
    return {
        "elbo": log_likelihood(variance) - divergence,
        "log_likelihood": log_likelihood(variance),
        "kl": divergence,
        "mse": centre.double().square().mean().item(),
        "latent_norm": (posterior.mean.abs().square() + posterior.variance).mean().item(),
        "sigma": math.sqrt(variance),
        "learned_elbo": log_likelihood(learned_variance) - divergence,
        "learned_sigma": math.sqrt(learned_variance),
    }
