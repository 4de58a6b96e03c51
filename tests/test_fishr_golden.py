"""Values of the authors' code: of DomainBed's Fishr, and of the script for Colored MNIST.

The numbers were produced by running facebookresearch/DomainBed (class Fishr) and alexrame/fishr in
float64. Constants of three cases stand here; all cases are read from the shared file if there is
one. The script's variant with full covariances, whose size is the square of the number of
parameters, is not offered.
"""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fishr_oracles import Threads, largest_error

from robust_nlp.fishr.average import MovingAverage
from robust_nlp.fishr.batch import LinearCall, domain_batch
from robust_nlp.fishr.moments import gradient_variances
from robust_nlp.fishr.penalty import batch_penalty, fishr_penalty
from robust_nlp.fishr.residuals import residuals_of, softmax_loss

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
binary = partial(residuals_of, kind="binary")

# Domain 1 has a single row, whose variance the authors' code takes for 0.
SINGLE = {
    "features": [
        [-1.87116, 0.286252, -1.41566, -0.0543805, 1.03608, 0.228218],
        [0.327944, 1.03034, 0.892464, -0.942252, -0.590755, -0.908102],
        [-1.24791, 0.602894, 1.07114, -1.34175, 0.235822, -1.35976],
        [-0.519013, 1.1892, -0.643905, -3.14044, -2.29161, 1.12289],
        [0.281445, -1.06315, 0.210985, 0.506518, 0.217106, 0.475884],
        [0.701501, 0.438465, -2.04202, -0.00416013, 0.231601, 2.22583],
        [-0.21819, 1.82294, 2.03314, 5.46484, -0.028491, 1.12997],
        [2.03076, 1.11252, 2.08063, 1.15541, -1.35011, 0.183972],
        [1.47425, -0.085316, 0.500095, 2.10883, 2.2847, 3.00168],
        [4.13901, 1.90057, 4.82135, -1.66735, 1.04338, 1.76459],
    ],
    "weight": [
        [-1.22272, 2.83523, 0.896409, 1.11333, -1.51433, 0.761956],
        [-0.982486, 0.500495, 0.0254575, -0.865934, 0.480867, 0.134546],
        [0.815918, 0.781284, -0.401283, -0.980081, 0.101378, -0.781],
    ],
    "bias": [-0.255475, 0.0426953, -0.0725056],
    "labels": [1, 0, 2, 1, 1, 2, 2, 1, 1, 0],
    "domain_ids": [0, 0, 0, 0, 0, 1, 2, 2, 2, 2],
    "penalty_mean_over_params": 1.0503316700698038,
    "penalty_sum_over_params": 22.05696507146588,
    "grad_weight": [
        [
            -1.7550774722874045, -0.830247320585883, -2.0902672001481166,
            0.8055017841541027, -0.38339424964637214, -0.675174446958036,
        ],
        [
            -0.05509000326705783, -0.0006388171134631073, -0.022449810096947187,
            -0.07290210350372138, -0.08579442207764296, -0.1166935502034291,
        ],
        [
            1.8101674755544626, 0.8308861376993458, 2.1127170102450634,
            -0.7325996806503822, 0.4691886717240151, 0.7918679971614648,
        ],
    ],
    "grad_bias": [-0.3996376911588446, -0.043203016329068734, 0.4428407074879132],
}  # fmt: skip

# One logit; the sum over parameters and over both domains.
COLORED = {
    "features": [
        [1.57264, -0.298671, -0.55319, -0.465314, 1.49483, 1.92698, 0.0366598],
        [-0.0266289, 0.553492, -2.62037, 0.791117, 0.413641, -2.05172, -0.444635],
        [-0.07797, 0.33568, 0.286495, 0.256706, 1.47889, -0.782348, -1.64089],
        [1.10855, -2.22448, 0.500459, -1.96304, -0.0633604, -1.78015, 1.46305],
        [0.0296494, 0.290853, 0.626345, 1.84402, 0.0069912, -0.291171, 1.89195],
        [-0.115989, -0.0220361, -0.664183, 0.483115, -2.33743, -0.338626, -0.8414],
        [0.0892462, 0.214408, -0.838474, 0.926344, 0.558089, -0.259519, 3.39667],
        [2.71381, 0.892576, -3.01639, -2.76748, 0.682479, -2.51731, 2.11239],
        [-1.43374, 0.751441, 1.04427, -0.379208, 2.62392, 0.640464, 1.27962],
        [1.26525, -2.67626, -0.202562, -1.75921, -0.461617, 2.80895, 0.272731],
        [0.85203, -1.07784, 1.68266, -0.380456, -0.169448, -1.14221, 1.42101],
        [1.06084, 1.11205, -0.82316, 3.60623, -1.07593, -0.434206, 1.52196],
        [0.0823166, 0.118764, -0.139184, -1.44205, -0.236346, -0.229319, 2.75895],
        [-0.231242, 2.40028, -3.7584, -0.253052, 0.0986117, 0.557461, -2.15905],
    ],
    "weight": [[0.0265217, -0.123361, -0.789662, -0.751391, -0.0161416, -1.37728, 0.450224]],
    "bias": [0.1272],
    "labels": [0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0],
    "domain_ids": [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
    "penalty": 3.5881462817578935,
}

# Variances of a bias in one domain at five steps, and the values used, gamma 0.9.
RAW = [
    [0.06331230079519494, 0.12734927989010345, 0.0514041334771035],
    [0.15674701304691385, 0.2885777422453163, 0.1256973852263939],
    [0.33185451006546035, 0.2829449935744487, 0.34751947815928497],
    [0.21667136904485595, 0.013183814878603522, 0.14138310111036237],
    [0.003005938459860084, 0.37791118533540535, 0.3245045944887308],
]
USED = [
    [0.06331230079519494, 0.12734927989010345, 0.0514041334771035],
    [0.2137280837625893, 0.4031920941464094, 0.17196110535578704],
    [0.5242097854517908, 0.6458178783062172, 0.5022844729794933],
    [0.6884601759514676, 0.594419905354199, 0.5934391267919064],
    [0.6226200968161809, 0.9128891001541843, 0.8585998086014465],
]


def inputs_of(case, dtype, step=None):
    """Features, weight, bias, labels and domains of a case, or of one of its steps."""
    step = case if step is None else step
    numbers = [step["features"], case["weight"], case["bias"]]
    return (
        [torch.tensor(x, dtype=dtype, requires_grad=True) for x in numbers],
        torch.tensor(step["labels"]),
        torch.tensor(step["domain_ids"]),
    )


def check(case, step, dtype, **settings):
    (features, weight, bias), labels, domains = inputs_of(case, dtype, step)
    logits = F.linear(features, weight, bias)
    # The authors' code takes a domain with a single row along, with variance 0.
    found = fishr_penalty(features, logits, labels, domains, min_rows=1, **settings)
    assert_close(found, step["penalty_mean_over_params"], dtype)
    for name, value in (("features", features), ("weight", weight), ("bias", bias)):
        if f"grad_{name}" in step:
            (gradient,) = torch.autograd.grad(found, value, retain_graph=True)
            # Terms of many rows cancel in a gradient: float32 keeps fewer digits of it.
            loose = 1.0 if dtype == torch.float64 else 10.0
            assert_close(gradient, step[f"grad_{name}"], dtype, loose)


def assert_close(found, expected, dtype, factor=1.0):
    expected = torch.tensor(expected, dtype=torch.float64)
    if not expected.any():
        assert found.abs().max() < 1e-12
    else:
        assert largest_error(found, expected) < factor * TOLERANCE[dtype]


@DTYPES
def test_penalty_with_a_single_row_is_that_of_domainbed(dtype):
    check(SINGLE, SINGLE, dtype)


def test_sum_over_parameters_is_that_of_domainbed():
    (features, *linear), labels, domains = inputs_of(SINGLE, torch.float64)
    logits = F.linear(features, *linear)
    found = fishr_penalty(features, logits, labels, domains, reduction="sum", min_rows=1)
    assert_close(found, SINGLE["penalty_sum_over_params"], torch.float64)


@DTYPES
def test_binary_penalty_is_that_of_colored_mnist(dtype):
    (features, *linear), labels, domains = inputs_of(COLORED, dtype)
    logits = F.linear(features, *linear)
    found = fishr_penalty(features, logits, labels, domains, loss=binary, reduction="sum")
    assert_close(2.0 * found, COLORED["penalty"], dtype)


def test_moving_average_is_that_of_domainbed():
    average = MovingAverage(0.9)
    for raw, used in zip(RAW, USED, strict=True):
        found = average.update(["a"], torch.tensor([raw], dtype=torch.float64))
        assert_close(found, [used], torch.float64)


# --- the file these constants were copied from ---------------------------------------------------


@pytest.fixture(scope="module")
def shared():
    folder = os.environ.get("ROBUST_NLP_SHARED")
    path = Path(folder or ".") / "golden" / "fishr.json"
    if not folder or not path.is_file():
        pytest.skip("ROBUST_NLP_SHARED names no folder with golden/fishr.json")
    return {case["name"]: case for case in json.loads(path.read_text())["cases"]}


def test_constants_are_those_of_the_shared_file(shared):
    for name, constants in (("single_example_domain", SINGLE), ("coloredmnist_fishr", COLORED)):
        known = {**shared[name], **shared[name]["steps"][0]}
        assert constants == {key: known[key] for key in constants}
    steps = shared["ema_five_steps"]["steps"]
    assert [step["variance_raw"][0]["bias"] for step in steps] == RAW
    assert [step["variance_used"][0]["bias"] for step in steps] == USED


@DTYPES
def test_all_linear_heads_with_softmax_agree(shared, dtype):
    checked = 0
    for case in shared.values():
        if case["loss"] != "softmax_cross_entropy" or "weight" not in case:
            continue
        average = MovingAverage(case["ema"])
        for step in case["steps"]:
            check(case, step, dtype, average=average)
            checked += 1
    assert checked >= 11


@DTYPES
def test_variances_agree(shared, dtype):
    for name, loss in (
        ("three_domains_unbalanced", softmax_loss),
        ("constant_domain", softmax_loss),
        ("coloredmnist_fishr", binary),
    ):
        case, step = shared[name], shared[name]["steps"][0]
        (features, *linear), labels, domains = inputs_of(case, dtype, step)
        batch = domain_batch(features, F.linear(features, *linear), labels, domains, loss=loss)
        found = gradient_variances(batch, 3).values
        expected = [raw["weight"] + raw["bias"] for raw in step["variance_raw"]]
        assert_close(found, expected, dtype)


@DTYPES
def test_whole_head_agrees(shared, dtype):
    case = shared["two_layer_tanh_head_all_params"]
    (step,) = case["steps"]
    features, dense, of_dense, out, of_out = (
        torch.tensor(x, dtype=dtype, requires_grad=True)
        for x in (
            step["features"], case["dense_weight"], case["dense_bias"], case["out_weight"],
            case["out_bias"],
        )
    )  # fmt: skip
    inner = F.linear(features, dense, of_dense)
    pooled = inner.tanh()
    batch = domain_batch(
        pooled,
        F.linear(pooled, out, of_out),
        torch.tensor(step["labels"]),
        torch.tensor(step["domain_ids"]),
        inner=[LinearCall(inputs=features, outputs=inner, bias=True)],
    )
    found = gradient_variances(batch, 3).values
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert_close(found, [[x for n in names for x in v[n]] for v in step["variance_raw"]], dtype)
    penalty = batch_penalty(batch, "abc")
    assert_close(penalty, step["penalty_mean_over_params"], dtype)
    (gradient,) = torch.autograd.grad(penalty, features)
    assert_close(gradient, step["grad_features"], dtype, 1.0 if dtype == torch.float64 else 10.0)


def test_two_processes_agree_and_by_themselves_do_not(shared):
    case = shared["distributed_two_ranks"]
    (step,) = case["steps"]
    (features, *linear), labels, domains = inputs_of(case, torch.float64, step)
    logits = F.linear(features, *linear)

    def of(rank, **settings):
        rows = torch.tensor(step["rank_ids"]) == rank
        return fishr_penalty(
            features[rows], logits[rows], labels[rows], domains[rows], min_rows=1, **settings
        ).detach()

    for rank in (0, 1):
        assert_close(of(rank), step[f"penalty_rank{rank}"], torch.float64)
        assert abs(of(rank) / step["penalty_mean_over_params"] - 1.0) > 0.1
    for together in Threads(2).run(lambda rank, reduce: of(rank, reduce=reduce, n_domains=3)):
        assert_close(together, step["penalty_mean_over_params"], torch.float64)


def test_every_case_is_used_or_left_out_for_a_reason(shared):
    others = {
        "coloredmnist_fishr",
        "coloredmnist_fishr_offdiagonal",  # full covariances: not offered
        "coloredmnist_fishr_notcentered",
        "two_layer_tanh_head_all_params",
    }
    for name, case in shared.items():
        assert name in others or (case["loss"] == "softmax_cross_entropy" and "weight" in case)


def test_uncentred_case_agrees_where_the_file_has_it(shared):
    case = shared.get("coloredmnist_fishr_notcentered")
    if case is None:
        pytest.skip("this copy of the file has no uncentred case")
    (step,) = case["steps"]
    (features, *linear), labels, domains = inputs_of(case, torch.float64, step)
    found = fishr_penalty(
        features,
        F.linear(features, *linear),
        labels,
        domains,
        loss=binary,
        reduction="sum",
        centred=False,
    )
    assert_close(2.0 * found, step["penalty"], torch.float64)
