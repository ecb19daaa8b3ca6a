import pytest
import torch

from kahlervae.data import Form
from kahlervae.geometry import fisher_metric
from kahlervae.models import build_model
from kahlervae.nn import to_double
from kahlervae.train.objective import Objective

REGULARISER = {
    "form": "volume",
    "strength": 0.3,
    "tie": 0.7,
    "epsilon": 1e-3,
    "points": 4,
    "warmup_epochs": 10,
    "groups": 2,
    "components": 3,
    "scale": 5.0,
}
EXACT = {key: value for key, value in REGULARISER.items() if key != "tie"}


def setting(variant, **block):
    torch.manual_seed(0)
    identity = {"dataset": "noise", "representation": "pixels", "variant": variant, "seed": 0}
    model = to_double(build_model(identity, Form((3, 3)), "complex", 2, 8, 1, "constant"))
    objective = Objective(model, block, kl_warmup_epochs=4)
    return to_double(objective), torch.rand(12, 3, 3, dtype=torch.float64)


def terms(objective, images, epoch, seed=1):
    batch = objective.draw(images, torch.Generator().manual_seed(seed))
    return objective(batch, epoch)


@pytest.mark.parametrize(("epoch", "warmth"), [(1, 0.25), (4, 1.0), (9, 1.0)])
def test_weight_of_the_divergence_rises_to_beta(epoch, warmth):
    objective, images = setting("beta", beta=3.0)
    found = terms(objective, images, epoch)
    expected = 3.0 * warmth * found["kl"] - found["log_likelihood"]
    torch.testing.assert_close(found["loss"], expected)


def test_regularisation_adds_its_weighted_terms():
    objective, images = setting("kahler", beta=2.0, regulariser=REGULARISER)
    found = terms(objective, images, 5)
    expected = 2 * found["kl"] - found["log_likelihood"]
    expected = expected + 0.3 * 0.5 * found["regulariser"] + 0.7 * found["tie"]
    torch.testing.assert_close(found["loss"], expected)


def test_points_are_samples_of_the_batch_and_between_two_of_them():
    objective, images = setting("fisher", regulariser=EXACT | {"points": 6})
    seen = []
    objective.regulariser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    terms(objective, images, 5)
    (points,) = seen
    z = objective.model.encode(images).sample(torch.Generator().manual_seed(1))[:6]
    torch.testing.assert_close(points[::2], z[::2])
    ahead, behind = points[1::2] - z[1::2], z.roll(1, 0)[1::2] - z[1::2]
    share = (ahead / behind).real[:, :1]
    torch.testing.assert_close(ahead, share * behind)
    assert ((share > 0) & (share < 1)).all()


def test_fewer_points_leave_the_gradient_unbiased():
    """The mean over many draws of few points is that of all points, within four errors."""
    gradients = {}
    for points in (3, 12):
        objective, images = setting("fisher", regulariser=EXACT | {"points": points})
        slope = objective.model.decoder.mean.linear.weight
        draws = []
        for seed in range(300):
            shuffled = images[torch.randperm(12, generator=torch.Generator().manual_seed(seed))]
            value = terms(objective, shuffled, 5, seed)["regulariser"]
            draws.append(torch.autograd.grad(value, slope)[0][0])
        gradients[points] = torch.stack(draws)
    few, many = gradients[3], gradients[12]
    error = (few.var(0) / len(few) + many.var(0) / len(many)).sqrt()
    assert ((few.mean(0) - many.mean(0)).abs() < 4 * error).all()
    assert (few.var(0) > many.var(0)).all()


def test_the_exact_regulariser_is_the_mean_log_determinant_at_its_points():
    objective, images = setting("fisher", regulariser=EXACT | {"points": 1000})
    seen = []
    objective.regulariser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    value = terms(objective, images, 5)["regulariser"]
    metric = fisher_metric(objective.model.decoder, seen[0]) + 1e-3 * torch.eye(2)
    assert len(seen[0]) == 12
    torch.testing.assert_close(value, torch.linalg.eigvalsh(metric).log().sum(-1).mean())
