"""What distances are worth: each column against what it has to be, and bad input."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from kahlervae.data import Form, Split
from kahlervae.errors import InputError
from kahlervae.evaluate.distances import compare_distances, few_shot_accuracy
from kahlervae.geometry import MixturePotential, best_constant_metric, fisher_metric
from kahlervae.models import build_model

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex"}
SETTINGS = {"pairs": 60, "steps": 6, "queries": 40, "shots": [1, 3]}


def some_model(seed):
    torch.manual_seed(seed)
    identity = IDENTITY | {"seed": seed}
    model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=2)
    for parameter in model.parameters():
        parameter.data *= 1.5  # so that posterior means lie apart
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models():
    return [some_model(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def splits():
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).split([1200, 597])
    labels = torch.tensor(digits.target).split([1200, 597])
    return [Split(*pair, Form((8, 8))) for pair in zip(images, labels, strict=True)]


def constants(models, splits):
    z = [model.encode(splits[1].samples).mean for model in models]
    metrics = [fisher_metric(model.decoder, x) for model, x in zip(models, z, strict=True)]
    return [{"constant": MixturePotential.constant(best_constant_metric(m))} for m in metrics]


def test_rows(models, splits):
    table = compare_distances(models, constants(models, splits), *splits, SETTINGS)
    assert table["metric"].tolist() == ["fisher", "constant", "euclidean"] * 3
    assert table["seed"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    columns = ["metric", "spearman", "seeds_spearman", "accuracy_1", "accuracy_3"]
    assert table.columns.tolist() == [*IDENTITY, "seed", *columns, "microseconds_per_pair"]
    table = table.set_index(["metric", "seed"])
    assert (table.loc["fisher", "spearman"] == 1).all()
    assert (table.loc["constant", "spearman"].between(0.3, 0.9999)).all()
    assert (table["microseconds_per_pair"] > 0).all()
    again = compare_distances(models, constants(models, splits), *splits, SETTINGS)
    kept = columns[1:]
    assert np.array_equal(table[kept], again[kept])


def test_seeds_are_compared_on_the_same_pairs_and_by_metric(models, splits):
    """A model and its copy agree with each other; of three the mean over the other two counts."""
    twice = [models[0], models[1], models[0]]
    table = compare_distances(twice, constants(twice, splits), *splits, SETTINGS)
    for _, rows in table.groupby("metric"):
        first, second, third = rows["seeds_spearman"]
        assert first == third == pytest.approx((1 + second) / 2)
        assert second < 0.99
    alone = compare_distances(models[:1], constants(models[:1], splits), *splits, SETTINGS)
    assert alone["seeds_spearman"].isna().all()


def test_a_metric_that_is_everywhere_the_exact_one_ranks_as_it_does(models, splits):
    class Exact:
        def __init__(self, decoder):
            self.decoder = decoder

        def metric(self, z):
            return fisher_metric(self.decoder, z)

    exact = [{"same": Exact(model.decoder)} for model in models]
    table = compare_distances(models, exact, *splits, SETTINGS).set_index("metric")
    assert table.loc["same", "spearman"].min() > 0.9999
    scores = ["accuracy_1", "accuracy_3"]
    assert np.array_equal(table.loc["same", scores], table.loc["fisher", scores])


def test_without_labels_there_is_no_accuracy(models, splits):
    unlabelled = [split._replace(labels=None) for split in splits]
    table = compare_distances(models, constants(models, splits), *unlabelled, SETTINGS)
    assert table[["accuracy_1", "accuracy_3"]].isna().all(axis=None)
    assert table["spearman"].notna().all()


def test_few_shots_against_scikit_learn():
    stream = np.random.default_rng(0)
    labels = stream.permutation(np.repeat(np.arange(4), 6))
    labelled, queries = (stream.normal(size=(n, 3)) for n in (24, 50))
    classes = stream.integers(4, size=50)
    distances = torch.cdist(torch.tensor(queries), torch.tensor(labelled))
    for shots in (1, 2, 6):
        scores = []
        for start in range(0, 6, shots):
            rows = [np.flatnonzero(labels == c)[start : start + shots] for c in range(4)]
            chosen = np.concatenate(rows)
            nearest = KNeighborsClassifier(1).fit(labelled[chosen], labels[chosen])
            scores.append(nearest.score(queries, classes))
        found = few_shot_accuracy(distances, torch.tensor(classes), torch.tensor(labels), shots)
        assert found == pytest.approx(np.mean(scores))


def test_a_class_with_too_few_labels_gives_all_it_has():
    labels = torch.tensor([0, 0, 0, 2])
    distances = torch.tensor([[3.0, 2.0, 0.0, 1.0], [3.0, 2.0, 4.0, 5.0]])
    assert few_shot_accuracy(distances, torch.tensor([2, 0]), labels, shots=2) == 1.0


def test_bad_input(models, splits):
    train, test = splits
    potentials = constants(models, splits)
    single = test._replace(samples=test.samples[:1], labels=test.labels[:1])
    with pytest.raises(InputError, match="joins two samples, but there are 1: enlarge test"):
        compare_distances(models, potentials, train, single, SETTINGS)
    broken = MixturePotential.constant(torch.eye(2, dtype=torch.complex64))
    broken.background.mul_(torch.nan)
    with pytest.raises(
        InputError, match=r"distances of complex \(seed 0\) cannot be measured: the metric is not"
    ):
        compare_distances(models, [{"fitted": broken}] * 3, train, test, SETTINGS)
