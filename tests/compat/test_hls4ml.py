from pathlib import Path

import numpy as np
import onnx
import pytest

import toolchain
from tests.frontends.keras_files import keras3, layer, sequential, write_keras
from toolchain.compat.hls4ml import (
    config_from_keras_model,
    config_from_onnx_model,
    convert_from_keras_model,
    convert_from_onnx_model,
)
from toolchain.errors import CalibrationError, ConfigurationError, InputError, ToolError
from toolchain.hardware.board import load_board

DIGITS = Path(__file__).parents[2] / "examples/digits"
MODEL = DIGITS / "digits.onnx"
WEIGHTED = ("stem", "block_conv1", "block_conv2", "digit")


@pytest.fixture(scope="module")
def images():
    with np.load(DIGITS / "digits.npz") as digits:
        return digits["x_train"].astype(np.float32) / 16


@pytest.fixture(scope="module")
def converted(images, tmp_path_factory):
    model = convert_from_onnx_model(
        MODEL, output_dir=tmp_path_factory.mktemp("hls4ml") / "project", calibration_data=images[:64]
    )
    model.compile()
    return model


def node(model, name):
    return model.project.graph.by_name[name].operator


def test_configuration_of_a_model_has_one_precision():
    assert config_from_onnx_model(MODEL) == {"Model": {"Precision": {"default": "auto"}}}


def test_configuration_by_name_lists_every_layer_that_changes_values():
    config = config_from_onnx_model(str(MODEL), granularity="name", default_precision="fixed<16,6>")
    names = list(config["LayerName"])
    assert names[:3] == ["image", "stem", "stem_relu"]
    assert "flatten" not in names
    assert [name for name in names if "weight" in config["LayerName"][name]["Precision"]] == list(WEIGHTED)
    assert config["LayerName"]["stem"]["Precision"] == {
        "weight": "fixed<16,6>",
        "accum": "auto",
        "result": "fixed<16,6>",
    }


def test_predict_is_the_simulator(converted, images):
    expected = toolchain.load(converted.project.path).simulator(engine="reference").predict(images[:20])
    assert np.array_equal(converted.predict(images[:20]), expected)
    assert np.array_equal(converted.predict([images[:20]]), expected)


def test_trace_gives_every_layer_in_real_numbers(converted, images):
    y, layers = converted.trace(images[:5])
    assert np.array_equal(y, converted.predict(images[:5]))
    assert np.array_equal(layers["digit"], y)
    assert np.array_equal(layers["image"].ravel(), images[:5].ravel())
    assert layers["pool"].shape == (5, 4, 4, 24)
    assert (layers["stem_relu"] >= 0).all()


def test_write_replaces_the_project(converted, images):
    before = (converted.project.path / "program.json").read_bytes()
    converted.write()
    assert (converted.project.path / "program.json").read_bytes() == before


@pytest.mark.csim
@pytest.mark.usefixtures("quick")
def test_build_runs_the_c_simulation_and_gives_the_report(converted):
    report = converted.build(csim=True, synth=False)
    assert report["model"] == "digits.onnx"
    assert report["hardware"]["fits"]


def test_build_wants_the_vendors_tool_for_synthesis(converted, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match="vitis_hls"):
        converted.build(csim=False, synth=True)


def test_precisions_of_a_layer_are_forced(images, tmp_path):
    config = config_from_onnx_model(MODEL, granularity="name")
    layers = config["LayerName"]
    layers["image"]["Precision"]["result"] = "ufixed<5,1>"
    layers["stem"]["Precision"]["weight"] = "ap_fixed<6, 1>"
    layers["stem_relu"]["Precision"] = "ufixed<12,3,RND,SAT>"
    layers["digit"]["Precision"]["accum"] = "fixed<20,10,TRN,SAT>"
    layers["digit"]["Precision"]["result"] = "fixed<18,9>"
    layers["digit"]["Trace"] = True
    model = convert_from_onnx_model(MODEL, tmp_path / "p", hls_config=config, calibration_data=images[:64])
    model.compile()
    assert str(node(model, "image/quantize").type) == "ufixed<5,1,TRN,WRAP>"
    assert str(node(model, "stem").weight_type) == "fixed<6,1,TRN,WRAP>"
    assert str(node(model, "stem_relu/requantize").type) == "ufixed<12,3,RND,SAT>"
    # A forced format that is wider than activations are is what the next layers read.
    assert model.project.graph.by_name["block_conv1"].inputs == ("stem_relu/requantize",)
    report = {entry["name"]: entry for entry in model.project.report["layers"]}
    assert report["block_conv1"]["input_type"] == "ufixed<12,3,RND,SAT>"
    assert str(node(model, "digit/requantize").type) == "fixed<20,10,TRN,SAT>"
    assert str(node(model, "digit/requantize/requantize").type) == "fixed<18,9,TRN,WRAP>"
    assert model.project.graph.outputs[0].value == "digit/requantize/requantize"


def test_a_format_for_everything_needs_no_data(images, tmp_path):
    config = config_from_onnx_model(MODEL, default_precision="fixed<16,6>")
    model = convert_from_onnx_model(MODEL, tmp_path / "p", hls_config=config)
    model.compile()
    with np.load(DIGITS / "digits.npz") as digits:
        x, y = digits["x_test"].astype(np.float32) / 16, digits["y_test"]
    assert (model.predict(x).argmax(axis=1) == y).mean() > 0.97
    assert {str(node(model, name).weight_type) for name in WEIGHTED} == {"fixed<16,6,TRN,WRAP>"}
    assert {entry["output_type"] for entry in model.project.report["layers"]} == {"fixed<16,6,TRN,WRAP>"}


def test_missing_data_is_an_error_that_says_how_to_do_without(tmp_path):
    with pytest.raises(CalibrationError, match=r"calibration_data=.*default_precision"):
        convert_from_onnx_model(MODEL, tmp_path / "p")
    config = config_from_onnx_model(MODEL, granularity="name", default_precision="fixed<16,6>")
    config["LayerName"]["pool"]["Precision"]["result"] = "auto"
    with pytest.raises(CalibrationError, match="pool: the output format"):
        convert_from_onnx_model(MODEL, tmp_path / "p", hls_config=config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Modle": {}}, "'Modle' is unknown. Did you mean 'Model'"),
        ({"Model": {"Precison": "auto"}}, "'Precison' is unknown. Did you mean 'Precision'"),
        ({"Model": {"ReuseFactor": 1}}, "hls_config Model: the key 'ReuseFactor' is unknown"),
        ({"LayerName": {"sten": {}}}, "'sten' is unknown. Did you mean 'stem'"),
        ({"LayerName": {"stem": {"Precision": {"wieght": "auto"}}}}, "'wieght' is unknown. Did you mean 'weight'"),
        ({"LayerName": {"stem": {"Precision": {"bias": "fixed<8,2>"}}}}, "stem: the bias"),
        ({"LayerName": {"pool": {"Precision": {"weight": "fixed<8,2>"}}}}, "pool: the layer has no weights"),
        ({"LayerName": {"stem": {"Precision": {"result": "fixed<8>"}}}}, "fixed<8>"),
        ({"Model": {"Precision": "fixd<8,2>"}}, "fixd<8,2>"),
    ],
)
def test_wrong_configurations_are_errors(config, message, images, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        convert_from_onnx_model(MODEL, tmp_path / "p", hls_config=config, calibration_data=images[:8])
    assert message in str(caught.value)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clok_period": 5}, "Did you mean 'clock_period'"),
        ({"backend": "Quartus"}, "backend 'Quartus'"),
        ({"io_type": "io_parallel"}, "io_type 'io_parallel'"),
        ({"part": "xc7z020"}, "no board has the part 'xc7z020'"),
        ({"part": "xc7z020clg400-1", "board": "u250"}, "no board has the part"),
    ],
)
def test_wrong_options_are_errors(options, message, images, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        convert_from_onnx_model(MODEL, tmp_path / "p", calibration_data=images[:8], **options)
    assert message in str(caught.value)


def test_part_and_clock_choose_the_board(images, tmp_path):
    model = convert_from_onnx_model(
        MODEL, tmp_path / "p", calibration_data=images[:8], part="xc7z020clg400-1", clock_period=8, board=None
    )
    model.compile()
    assert load_board(model.project.report["board"]).part == "xc7z020clg400-1"
    assert model.project.report["hardware"]["clock_mhz"] == 125


def test_nothing_works_before_compile(images, tmp_path):
    model = convert_from_onnx_model(MODEL, tmp_path / "p", calibration_data=images[:8])
    with pytest.raises(ConfigurationError, match="compile"):
        model.predict(images[:2])
    assert not (tmp_path / "p").exists()


def test_wrong_inputs_are_refused(converted):
    with pytest.raises(InputError):
        converted.predict(np.zeros((2, 3)))


def test_an_onnx_object_is_stored_under_the_projects_name(images, tmp_path):
    model = convert_from_onnx_model(
        onnx.load(MODEL), tmp_path / "p", project_name="my/digits", calibration_data=images[:8]
    )
    model.compile()
    assert model.project.report["model"] == "my_digits.onnx"
    assert (tmp_path / "p/hls/src/my_digits.cpp").is_file()


class KerasModel:
    """Stands for a Keras model: TensorFlow is not needed to test what is done with one."""

    name = "net"

    def __init__(self):
        rng = np.random.default_rng(7)
        self.kernel, self.bias = rng.standard_normal((6, 4)).astype(np.float32), np.zeros(4, np.float32)

    def save(self, path):
        config = keras3(
            sequential(
                layer("InputLayer", "x", batch_input_shape=[None, 6]),
                layer("Dense", "fc", units=4, activation="relu", use_bias=True),
            )
        )
        write_keras(path, config, {"dense": [self.kernel, self.bias]})


def test_a_keras_object_is_read_from_its_file(tmp_path):
    keras = KerasModel()
    config = config_from_keras_model(keras, granularity="name")
    assert "fc" in config["LayerName"]
    x = np.random.default_rng(3).uniform(-1, 1, (50, 6))
    model = convert_from_keras_model(keras, tmp_path / "p", hls_config=config, calibration_data=x)
    model.compile()
    real = np.maximum(x @ keras.kernel + keras.bias, 0)
    assert model.project.report["model"] == "net.keras"
    assert np.abs(model.predict(x) - real).max() < 0.1


def test_something_else_is_no_model():
    with pytest.raises(ConfigurationError, match="int is no model"):
        config_from_onnx_model(3, granularity="name")
