"""What makes other VAEs comparable with the project's: networks of one size, ELBOs in one unit.

It needs no pythae, so that the tests of the project hold it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kahlervae.models import build_model
from kahlervae.models.likelihoods import RealGaussian
from kahlervae.models.posteriors import RealPosterior
from kahlervae.seeding import generator, standard_normal

__all__ = ["matched_networks", "scores_at_best_variance"]


def matched_networks(
    image_shape: tuple[int, int], sizes: Mapping[str, Any], seed: int
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of the variant `real`, as its training starts from them.

    They are real MLPs with SiLU for a latent space of dimension 2d, of the width that gives them as
    many parameters as the complex networks have.

    Args:
        image_shape: height and width.
        sizes: the block ``model`` of the configuration.
        seed: of the initial parameters.
    """
    torch.manual_seed(generator(seed, "initialise").initial_seed())
    identity = {"dataset": "", "representation": "pixels", "variant": "real", "seed": seed}
    model = build_model(identity, image_shape, "real", **sizes)
    return model.encoder, model.decoder


@torch.no_grad()
def scores_at_best_variance(
    encode: Callable[[Float[Tensor, "n D"]], RealPosterior],
    decode: Callable[[Float[Tensor, "n latent"]], Float[Tensor, "n D"]],
    train: Float[Tensor, "m D"],
    test: Float[Tensor, "n D"],
    random: torch.Generator,
) -> dict[str, float]:
    r"""What the project reports of reconstructions, for a decoder without a variance.

    The likelihood is :math:`N(\mu(z), \hat\sigma^2 I)` with the variance that makes the training
    images most likely,

    .. math:: \hat\sigma^2 = \frac{1}{mD} \sum_i |x_i - \mu(z_i)|^2, \qquad z_i \sim q(z \mid x_i).

    Args:
        encode: images to posteriors in R^{2d}.
        decode: latents to means μ.
        train: images that the variance is fitted to.
        test: images that are scored.
        random: of the posterior samples, one an image.

    Returns:
        As :func:`kahlervae.evaluate.reconstruction.reconstruction_scores`, less the parameters.
    """

    def draw(posterior: RealPosterior) -> Float[Tensor, "n latent"]:
        noise = standard_normal(posterior.real_mean, random)
        return posterior.real_mean + torch.exp(0.5 * posterior.real_log_var) * noise

    variance = (train - decode(draw(encode(train)))).double().square().mean()
    posterior = encode(test)
    mean = decode(draw(posterior))
    likelihood = RealGaussian(mean, variance.log().to(mean.dtype).expand_as(mean))
    log_likelihood = likelihood.log_prob(test).double().mean().item()
    kl = posterior.kl().double().mean().item()
    error = decode(posterior.real_mean).clamp(0, 1) - test
    norm = posterior.mean.abs().square() + posterior.variance
    return {
        "elbo": log_likelihood - kl,
        "log_likelihood": log_likelihood,
        "kl": kl,
        "mse": error.double().square().mean().item(),
        "latent_norm": norm.mean().item(),
        "sigma": variance.sqrt().item(),
    }
