"""How well a model encodes and reproduces images that it was not trained on."""

import torch
from jaxtyping import Float
from torch import Tensor

from kahlervae.models import VAE
from kahlervae.models.vae import count_parameters

__all__ = ["reconstruction_scores"]


@torch.no_grad()
def reconstruction_scores(
    model: VAE, images: Float[Tensor, "n height width"], generator: torch.Generator
) -> dict[str, float]:
    r"""Means over the images.

    - ``elbo`` = ``log_likelihood`` − ``kl``, nats per image, one posterior sample each;
    - ``mse``: squared error of the decoded posterior mean, per pixel;
    - ``latent_norm``: :math:`E|z_i|^2 = |m_i|^2 + \gamma_i` per latent dimension, 1 under the
      prior; above it, the encoder has left the prior (docs/theory.md, section 9);
    - ``sigma``: standard deviation of the likelihood;
    - ``parameters``: real parameters of the model, a complex one counting twice.
    """
    log_likelihood, kl = (
        term.double().mean().item() for term in model.elbo_terms(images, generator)
    )
    posterior = model.encode_images(images)
    error = model.decode_images(posterior.mean) - images
    return {
        "elbo": log_likelihood - kl,
        "log_likelihood": log_likelihood,
        "kl": kl,
        "mse": error.double().square().mean().item(),
        "latent_norm": (posterior.mean.abs().square() + posterior.variance).mean().item(),
        "sigma": torch.exp(0.5 * model.decoder(posterior.mean).log_var).mean().item(),
        "parameters": count_parameters(model),
    }
