"""What PyTorch's exporters write: where torch is installed (docs/models.md), both of them."""

import numpy as np
import pytest

from toolchain.frontends import read_graph
from toolchain.passes import pipeline
from toolchain.simulation import reference


@pytest.mark.optional
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_an_exported_network_is_what_torch_computes(dynamo, tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        """A residual block with a squeeze-and-excite gate."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Hardsigmoid())

        def forward(self, x):
            y = self.norm(self.conv(x))
            return torch.relu(x + y * self.gate(y))

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.SiLU(), Block(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5),
        nn.Softmax(dim=1),
    ).eval()  # fmt: skip
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 16, 16),), path, opset_version=18, input_names=["image"], dynamo=dynamo)
    graph = pipeline.run(read_graph(path), pipeline.REAL_PASSES)
    x = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    (given,), (output,) = graph.inputs, graph.outputs
    got = output.to_model(reference.evaluate(graph, {given.name: given.from_model(x).astype(float)})[output.name])
    np.testing.assert_allclose(got, net(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
