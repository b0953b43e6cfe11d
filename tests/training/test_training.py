"""What is trained is what is deployed: the training graph gives the program's integers, before and after training."""

import subprocess
import sys

import numpy as np
import pytest

from tests.small import listing, run
from tests.training.networks import CLASSES, NETWORKS, data, write
from toolchain.errors import ToolchainError
from toolchain.frontends import read_graph
from toolchain.ir import FixedType, Overflow, Rounding
from toolchain.ir import fixed as arithmetic
from toolchain.passes import pipeline
from toolchain.progress import no_progress
from toolchain.quantization.configuration import load_configuration
from toolchain.simulation import reference

keras = pytest.importorskip("keras", reason="the extra train is not installed", exc_type=ImportError)

from toolchain.training import support  # noqa: E402 - they want Keras
from toolchain.training.fine_tune import distillation  # noqa: E402
from toolchain.training.network import TrainingNetwork  # noqa: E402
from toolchain.training.project import fine_tune  # noqa: E402
from toolchain.training.rounding import requantized  # noqa: E402
from toolchain.training.start import start  # noqa: E402

ROWS = 384
ALWAYS = {"plain": "dct", "residual": "spatial", "depthwise": "dct"}


def begun(name, folder, bits=8_000, **options):
    real = pipeline.run(read_graph(write(name, folder)), pipeline.REAL_PASSES)
    x, _ = data(64)
    return start(real, {"x": x}, load_configuration(None, **options), bits, no_progress)


def assert_equal(network, x):
    program = network.deployed()
    values = {}
    reference.evaluate(program, {"x": program.inputs[0].from_model(x)}, values.__setitem__)
    raw = network.raw_scores(x)
    np.testing.assert_array_equal(raw, values[network.scores])
    assert len(np.unique(raw)) > CLASSES


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        (name, pack) if ALWAYS[name] == pack else pytest.param(name, pack, marks=pytest.mark.exhaustive)
        for name in NETWORKS
        for pack in ("dct", "spatial")
    ],
)
def test_the_training_graph_gives_the_integers_of_the_program(name, pack, tmp_path):
    """At the start, and after a few steps of training, which change levels and biases."""
    found = begun(name, tmp_path, pack=pack)
    network = TrainingNetwork(found.lowered.graph, found.latents)
    x, y = data(ROWS, 1)
    assert_equal(network, x[:32])
    before = [np.array(keras.ops.convert_to_numpy(one.levels())) for one in network.layers_in_order]
    network.compile(optimizer=keras.optimizers.Adam(0.2), loss=distillation)
    targets = np.eye(CLASSES, dtype=np.float32)[y]
    for _ in range(3):
        network.train_on_batch(network.enter(x), np.concatenate([targets, 4 * targets], axis=1))
    after = [keras.ops.convert_to_numpy(one.levels()) for one in network.layers_in_order]
    assert all((a != b).any() for a, b in zip(before, after, strict=True)), "every layer learns"
    assert_equal(network, x[:32])


def test_sums_beyond_24_bits_are_computed_in_float64(tmp_path):
    found = begun("plain", tmp_path, bits=60_000, pack="dct", weight_bits=12, activation_bits=14)
    network = TrainingNetwork(found.lowered.graph, found.latents)
    assert "float64" in [one.kind for one in network.layers_in_order]
    assert_equal(network, data(16)[0])


@pytest.mark.parametrize("mode", [Rounding.RND, Rounding.RND_CONV, Rounding.TRN])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_rounding_is_that_of_the_program(mode, kind):
    """Ties, neighbours of ties, numbers next to the end of the mantissa; the gradient is 1 inside, 0 outside."""
    raw = np.concatenate([np.arange(-600, 600), (1 << 23) - np.arange(1, 40), -(1 << 23) + np.arange(1, 40)])
    type = FixedType(8, 5, True, mode, Overflow.SAT)  # 3 fraction bits, from 7
    wanted = arithmetic.requantize(raw.astype(np.int64), np.array([4]), type) / 8
    x = keras.ops.convert_to_tensor((raw / 128).astype(kind))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(requantized(x, type)), wanted)
    layer = keras.layers.Lambda(lambda v: requantized(v, type))
    model = keras.Sequential([keras.Input((1,)), layer])
    variable = keras.Variable(np.float32([[1.3], [15.9], [17.0], [-16.02], [-17.0]]))
    tensorflow = pytest.importorskip("tensorflow")
    with tensorflow.GradientTape() as tape:
        total = keras.ops.sum(model(variable.value))
    gradient = keras.ops.convert_to_numpy(tape.gradient(total, variable.value))[:, 0]
    assert gradient.tolist() == [1, 1, 0, 1, 0]


def test_the_support_keeps_what_matters_within_both_budgets():
    rng = np.random.default_rng(0)
    layers = [
        support.Layer(rng.normal(0, 3, (3, 40)), rng.random((3, 40)), pixels, np.ones((3, 40), np.float32))
        for pixels in (1, 64)
    ]
    for count, products in ((60, 1e9), (1e9, 1500), (90, 2000), (0, 0), (1e9, 1e9)):
        masks = support.chosen(layers, count, products)
        kept = [
            support.Layer(one.coefficients, one.curvature, one.pixels, mask)
            for one, mask in zip(layers, masks, strict=True)
        ]
        assert support.nonzeros(kept) <= count
        assert support.multiplications(kept) <= products
        full = min(count, support.nonzeros(layers)), min(products, support.multiplications(layers))
        assert support.nonzeros(kept) >= full[0] - 1 or support.multiplications(kept) >= full[1] - 64
    lost = [(np.square(one.coefficients) * one.curvature)[one.nonzero] for one in layers]
    masks = support.chosen(layers, 60, 1e9)
    left = [mask[one.nonzero] for mask, one in zip(masks, layers, strict=True)]
    least_kept = min(v[m == 1].min() for v, m in zip(lost, left, strict=True))
    assert least_kept >= max(v[m == 0].max() for v, m in zip(lost, left, strict=True))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    model = write("plain", folder)
    options = {"data": data(ROWS, 1), "validate": data(200, 2), "budget": "14x", "epochs": 4}
    return model, options, fine_tune(model, folder / "project", **options)


def test_fine_tuning_meets_the_budget_and_keeps_the_accuracy(tmp_path):
    """The project's own network of digits, a third of its size without training: more than untrained packing keeps."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = digits.images.astype(np.float32)[..., None] / 16, digits.target
    options = {"data": (x[:1200], y[:1200]), "budget": "20x", "epochs": 15}
    project = fine_tune("examples/digits/digits.onnx", tmp_path / "project", **options)
    accuracy = np.mean(project.simulator().predict(x[1200:]).reshape(len(x) - 1200, -1).argmax(1) == y[1200:])
    assert accuracy > 0.9
    assert 4 * project.report["parameters"] / (project.path / "weights.bin").stat().st_size >= 20
    assert project.report["multiplications"]["ratio"] >= 20 / 4.5
    assert not project.path.with_name("project.training").exists()


def test_an_interrupted_run_goes_on_to_the_same_bytes(trained, tmp_path):
    """As an uninterrupted run gives: so two runs are the same, too. Until the end there is no project."""
    model, options, project = trained
    again, said = tmp_path / "project", []

    def interrupt(what, done, total):
        said.append(what)
        if what.startswith("epoch 3 of 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(model, again, progress=interrupt, **options)
    assert not again.exists()
    assert any(what.startswith("epoch 1 of 4") for what in said)
    said.clear()
    fine_tune(model, again, progress=lambda what, *_: said.append(what), **options)
    assert not any(what.startswith("epoch 2 of 4") for what in said)
    assert listing(again) == listing(project.path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["project"]


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_left_alone(trained, tmp_path):
    model, options, project = trained
    folder = tmp_path / "project.training"
    folder.mkdir()
    (folder / "checkpoint.npz").write_bytes(b"PK\x03\x04 damaged")
    fine_tune(model, tmp_path / "project", **options)
    assert listing(tmp_path / "project") == listing(project.path)


def saved(folder, name="train.npz", **arrays):
    np.savez(folder / name, **arrays)
    return folder / name


def test_mistakes_are_told_in_one_line(tmp_path, capsys):
    model = write("plain", tmp_path)
    x, y = data(64)
    good = saved(tmp_path, x=x, y=y)
    cases = {
        "is no budget": (good, "14"),
        "the model wants rows of [2, 8, 8]": (saved(tmp_path, "shape.npz", x=x[:, :1], y=y), "14x"),
        "Give class numbers": (saved(tmp_path, "float.npz", x=x, y=y.astype(float)), "14x"),
        "y holds classes up to 11": (saved(tmp_path, "classes.npz", x=x, y=y + 8), "14x"),
        "are needed at least": (saved(tmp_path, "few.npz", x=x[:5], y=y[:5]), "14x"),
        "cannot be read": (tmp_path / "none.npz", "14x"),
        "Give a larger budget, or more --epochs": (good, "60B"),
    }
    for message, (path, budget) in cases.items():
        argv = ("fine-tune", model, "--data", path, "--budget", budget, "--epochs", 1, "-o", tmp_path / "out")
        assert run(*argv) == 2
        said = capsys.readouterr().err
        assert message in " ".join(said.split())
        assert "Traceback" not in said
        assert not (tmp_path / "out").exists()


def test_several_budgets_hold_together(tmp_path):
    project = fine_tune(
        write("depthwise", tmp_path), tmp_path / "project", data=data(ROWS, 1), budget=["700B", "6kMAC"], epochs=4
    )
    assert (project.path / "weights.bin").stat().st_size <= 700
    assert project.report["multiplications"]["packed"] <= 6000


def test_batches_may_come_from_a_pipeline_of_ones_own(trained, tmp_path):
    """A function from the epoch to batches, augmented ones perhaps, or a list that is gone through again and again."""
    model, options, _ = trained
    x, y = options["data"]

    def batches(epoch):
        order = np.random.default_rng((0, epoch)).permutation(len(y))
        return [(x[order[k : k + 128]], y[order[k : k + 128]]) for k in range(0, ROWS, 128)]

    seen = []

    def source(epoch):
        seen.append(epoch)
        return batches(epoch)

    found = fine_tune(model, tmp_path / "project", **{**options, "data": source})
    assert seen == [0, *range(4)], "counted once, then trained on"
    assert found.report["compression"]["ratio_float32"] >= 14
    with pytest.raises(ToolchainError, match="data to validate on"):
        fine_tune(model, tmp_path / "other", **{**options, "data": batches(0), "validate": None})
    with pytest.raises(ToolchainError, match="gives no batches"):
        fine_tune(model, tmp_path / "other", **{**options, "data": []})
    with pytest.raises(ToolchainError, match="the model wants rows of"):
        fine_tune(model, tmp_path / "other", **{**options, "data": [(x[:, :1], y)]})


def test_a_model_compiles_where_tensorflow_was_loaded_first(tmp_path):
    """OR-Tools crashes there, so the compiler goes into a process of its own."""
    np.save(tmp_path / "c.npy", data(32)[0])
    program = (
        "import tensorflow, toolchain, sys\n"
        "made = toolchain.compile(sys.argv[1], sys.argv[2], calibrate=sys.argv[3], pack='none')\n"
        "print(made.report['hardware']['fits'], 'ortools' in sys.modules)"
    )
    argv = [sys.executable, "-c", program, write("plain", tmp_path), tmp_path / "project", tmp_path / "c.npy"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "False"]), done.stderr[-2000:]
