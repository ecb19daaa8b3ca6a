"""How well a model encodes and reproduces images that it was not trained on."""

import torch
from jaxtyping import Num
from torch import Tensor

from kahlervae.models import VAE
from kahlervae.models.vae import count_parameters

__all__ = ["reconstruction_scores"]

DRAWS, SCORED = 256, 1000
"""Of the importance sampling: draws for every sample, and samples at most."""


ACTIVE = 0.1
"""Least share of the variance of a latent dimension that tells samples apart."""


@torch.no_grad()
def reconstruction_scores(
    model: VAE, samples: Num[Tensor, "n *shape"], generator: torch.Generator
) -> dict[str, float]:
    r"""Means over the samples.

    - ``elbo`` = ``log_likelihood`` − ``kl``, nats per sample, one posterior sample each;
    - ``mse``: squared error of the decoded posterior mean, per value of a view;
    - ``latent_norm``: :math:`E|z_i|^2 = |m_i|^2 + \gamma_i` per latent dimension, 1 under the
      prior; above it, the encoder has left the prior (docs/theory.md, section 9);
    - ``active_latents``: the share of latent dimensions with
      :math:`\mathrm{Var}\, m_i / (\mathrm{Var}\, m_i + E\gamma_i)` above :data:`ACTIVE`; the others
      tell next to nothing about the sample: the posterior has collapsed onto the prior there;
    - ``sigma``: standard deviation of the likelihood;
    - ``parameters``: real parameters of the model, a complex one counting twice;
    - ``nll``: −log p(x) by importance sampling with :data:`DRAWS` draws, nats per sample, of the
      first :data:`SCORED` of them (:meth:`~kahlervae.models.vae.VAE.log_evidence`).

    With a Bernoulli likelihood ``elbo``, ``log_likelihood`` and ``nll`` are of binary draws of the
    grey values, everything else of the grey values themselves.
    """
    log_likelihood, kl = (
        term.double().mean().item() for term in model.elbo_terms(samples, generator)
    )
    posterior = model.encode(samples)
    error = model.decode(posterior.mean) - model.form.show(samples)
    parts = torch.view_as_real(error) if error.is_complex() else error
    squares = parts.double().square()
    told = posterior.mean.var(0, correction=0)
    active = told > ACTIVE * (told + posterior.variance.mean(0))
    return {
        "elbo": log_likelihood - kl,
        "log_likelihood": log_likelihood,
        "kl": kl,
        "mse": squares.mean().item() * (2 if error.is_complex() else 1),
        "latent_norm": (posterior.mean.abs().square() + posterior.variance).mean().item(),
        "active_latents": active.double().mean().item(),
        "sigma": torch.exp(0.5 * model.decoder(posterior.mean).log_var).mean().item(),
        "parameters": count_parameters(model),
        "nll": -model.log_evidence(samples[:SCORED], DRAWS, generator).double().mean().item(),
    }
