"""The comparison with the Fisher metric, on models that were trained for a moment."""

import math

import pytest
import torch

from kahlervae.data import Form, Split
from kahlervae.errors import InputError
from kahlervae.evaluate.agreement import (
    TOLERANCES,
    _closedness_error,
    _covariance_share,
    _finite,
    _hessian_error,
    _spearman,
    compare_potentials,
)
from kahlervae.geometry import (
    MixturePotential,
    closedness_defect,
    fisher_metric,
    mixed_hessian,
    relative_error,
)
from kahlervae.models import build_model
from kahlervae.models.decoders import ComplexDecoder
from kahlervae.nn import to_double
from kahlervae.train import train
from kahlervae.train.potentials import fit_potentials

SETTINGS = {
    "model": {"latent_dim": 2, "width": 12, "depth": 2, "likelihood_variance": "constant"},
    "training": {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "gradient_clip": 100.0,
        "kl_warmup_epochs": 0,
        "checkpoint_every": 10,
    },
    "variant": {},
}
FIT = {
    "kind": "mixture",
    "size": {"groups": 2, "components": 2},
    "steps": 5,
    "learning_rate": 0.1,
    "batch": 16,
}
POTENTIAL = {"probes": 64, "anchors": 8, "candidates": {"one": FIT}, "trial": 1.0, "polish": 0}
CONTROL = ["holomorphic_hermitian", "holomorphic_closedness", "holomorphic_potential"]


def compared(variant, tmp_path, representation="kspace", **block):
    images = torch.rand(64, 4, 5, generator=torch.Generator().manual_seed(0))
    splits = dict.fromkeys(
        ("train", "validation"),
        Split(images, None, Form((4, 5))),
    )
    identity = {"dataset": "noise", "representation": representation, "variant": variant}
    settings = SETTINGS | {"variant": block}
    model, _ = train(splits, identity | {"seed": 0}, settings, tmp_path / variant)
    potentials = fit_potentials(model, images, POTENTIAL).potentials
    control = {"probes": 16, "width": 4, "steps": 5, "learning_rate": 1e-2}
    settings = {"probes": 8, "epsilon": 1e-3, "control": control}
    return compare_potentials(model, potentials, images, images, settings)


def test_a_trained_holomorphic_decoder_is_kahler(tmp_path):
    tables = compared("holomorphic", tmp_path)
    errors = tables.identities.set_index("identity_name")
    construction = {"construction_closedness", "construction_potential"}
    assert set(errors.index) == set(TOLERANCES) - construction
    for name in CONTROL:
        assert errors.loc[name, "value"] < 1e-10
        assert errors.loc[name, "tolerance"] == 1e-8
    exact = tables.agreement.query("potential == 'fisher'")
    assert exact["hermitian_defect"].max() < 1e-10
    assert exact["closedness_defect"].max() < 1e-10


def test_what_potentials_are_held_against_is_in_the_table_alone(tmp_path):
    tables = compared("complex", tmp_path, "pixels")
    assert {"anchors", "hermitian"} < set(tables.agreement["potential"])
    anchors = tables.agreement.query("potential == 'anchors'")
    assert (anchors["min_eigenvalue"] > 0).all()
    assert anchors["within_share"].between(0, 1).all()
    assert not {"anchors", "hermitian"} & set(tables.probes["potential"])


def test_a_decoder_that_only_says_it_is_holomorphic_fails_the_control(tmp_path, monkeypatch):
    monkeypatch.setattr(ComplexDecoder, "holomorphic", True)
    errors = compared("complex", tmp_path).identities.set_index("identity_name")
    assert (errors.loc[CONTROL, "value"] > 1e-2).all()


def test_an_ordinary_decoder_of_the_same_data_is_not(tmp_path):
    tables = compared("complex", tmp_path)
    assert not set(tables.identities["identity_name"]) & set(CONTROL)
    exact = tables.agreement.query("potential == 'fisher'")
    assert exact["hermitian_defect"].min() > 1e-2
    assert exact["closedness_defect"].min() > 1e-2


@pytest.mark.parametrize("variant", ["complex", "holomorphic"])
def test_identities_hold_in_kspace(tmp_path, variant):
    errors = compared(variant, tmp_path).identities.set_index("identity_name")["value"]
    for name in ("kl_hessian", "total_covariance", "closedness"):
        assert errors[name] < TOLERANCES[name]
    assert errors["psh_certificate"] >= 0


@pytest.mark.parametrize("representation", ["pixels", "kspace"])
@pytest.mark.parametrize("variance", ["constant", "diagonal"])
def test_the_covariance_share_is_what_the_variance_alone_has_of_the_metric(
    representation, variance
):
    """By the metric of the same decoder with its mean held at zero."""
    torch.manual_seed(0)
    identity = {"dataset": "d", "representation": representation, "variant": "complex", "seed": 0}
    model = build_model(identity, Form((4, 5)), "complex", 2, 8, 1, variance)
    decoder = to_double(model.decoder.requires_grad_(False))
    z = torch.randn(20, 2, dtype=torch.complex128)

    def variance_alone(z):
        likelihood = decoder(z)
        return likelihood._replace(mean=torch.zeros_like(likelihood.mean))

    parts = [
        fisher_metric(f, z).diagonal(dim1=-2, dim2=-1).sum(-1).real
        for f in (variance_alone, decoder)
    ]
    share = _covariance_share(decoder, z)
    torch.testing.assert_close(share, parts[0] / parts[1])
    assert (share.max() == 0) if variance == "constant" else (share.min() > 0)


def test_a_pluriharmonic_decoder_is_kahler_by_construction_and_its_control_is_not(tmp_path):
    tables = {
        name: compared(name, tmp_path, representation="pixels", likelihood="bernoulli")
        for name in ("pluriharmonic", "unconstrained")
    }
    errors = tables["pluriharmonic"].identities.set_index("identity_name")
    for name in ("construction_closedness", "construction_potential"):
        assert errors.loc[name, "value"] < TOLERANCES[name]
        assert name not in set(tables["unconstrained"].identities["identity_name"])
    own = tables["pluriharmonic"].agreement.query("potential == 'log_partition'")
    assert own["relative_error_median"].max() < 1e-10
    assert own["within_share"].max() == 0
    assert tables["pluriharmonic"].agreement["kahler_residual"].max() < 1e-10
    assert tables["unconstrained"].agreement["kahler_residual"].min() > 1e-3
    assert "log_partition" not in set(tables["unconstrained"].agreement["potential"])


def test_metrics_that_are_none_are_refused_in_words():
    metrics = torch.eye(2).repeat(3, 1, 1)
    assert _finite(metrics, "it") is metrics
    metrics[1, 0, 1] = torch.inf
    with pytest.raises(InputError, match="it is not finite at 1 of 3: the decoder hardly depends"):
        _finite(metrics, "it")


def test_ranks_of_what_is_no_number_are_none():
    """Of the rest alone the correlation would be 1."""
    values = torch.tensor([1.0, 2, 3, 0])
    assert _spearman(values, values) == pytest.approx(1)
    for hole in range(4):
        broken = values.clone()
        broken[hole] = torch.nan
        assert math.isnan(_spearman(broken, values))
        assert math.isnan(_spearman(values, broken))


def sure_posteriors():
    """Of standard deviations next to their distances, in R⁴ at latents of order 1."""
    stream = torch.Generator().manual_seed(0)
    mean = 1 + 1e-3 * torch.randn(64, 2, dtype=torch.complex128, generator=stream)
    variance = 1e-7 * (1 + torch.rand(64, 2, dtype=torch.float64, generator=stream))
    z = mean[:20] + 1e-4 * torch.randn(20, 2, dtype=torch.complex128, generator=stream)
    return MixturePotential.from_posterior(mean, variance), z


def test_identities_of_sure_posteriors_are_judged_without_what_rounding_does():
    potential, z = sure_posteriors()
    plain = relative_error(potential.metric(z), mixed_hessian(potential.potential, z))
    assert plain.max() > TOLERANCES["total_covariance"]
    assert _hessian_error(potential, z).max() < TOLERANCES["total_covariance"]
    assert closedness_defect(potential.metric, z).max() > TOLERANCES["closedness"]
    assert _closedness_error(potential, z).max() < TOLERANCES["closedness"]


def test_a_metric_that_is_not_the_hessian_is_found_whatever_the_posteriors(monkeypatch):
    potential, z = sure_posteriors()
    metric = MixturePotential._metric
    monkeypatch.setattr(MixturePotential, "_metric", lambda self, z: (1 + 1e-9) * metric(self, z))
    assert _hessian_error(potential, z).max() > TOLERANCES["total_covariance"]
