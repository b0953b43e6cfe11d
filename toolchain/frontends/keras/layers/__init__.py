"""The Keras layers that can be translated, by class name."""

from typing import Final

from toolchain.frontends.keras.fields import Fields
from toolchain.frontends.keras.layers import (
    activation,
    convolution,
    dense,
    hgq,
    merge,
    normalization,
    pooling,
    quantized,
    shape,
)
from toolchain.frontends.keras.layers.base import Identity, Layer, Role

__all__ = ["LAYERS", "OPERATIONS", "Layer", "Role", "read_layer"]

IDENTITIES = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout",
    "AlphaDropout", "ActivityRegularization",
)  # fmt: skip

LAYERS: Final[dict[str, type[Layer]]] = {
    **{
        kind.__name__: kind
        for kind in (
            activation.Activation, activation.ReLU, activation.LeakyReLU, activation.PReLU, activation.ELU,
            activation.Softmax, convolution.Conv1D, convolution.Conv2D, convolution.DepthwiseConv1D,
            convolution.DepthwiseConv2D, convolution.SeparableConv1D, convolution.SeparableConv2D, dense.Dense,
            merge.Add, merge.Subtract, merge.Multiply, merge.Maximum, merge.Minimum, merge.Average, merge.Concatenate,
            normalization.BatchNormalization, normalization.Rescaling, normalization.Normalization,
            pooling.MaxPooling1D, pooling.MaxPooling2D, pooling.AveragePooling1D, pooling.AveragePooling2D,
            pooling.GlobalMaxPooling1D, pooling.GlobalMaxPooling2D, pooling.GlobalAveragePooling1D,
            pooling.GlobalAveragePooling2D, shape.Flatten, shape.Reshape, shape.Permute, shape.ZeroPadding1D,
            shape.ZeroPadding2D, shape.Cropping1D, shape.Cropping2D, shape.UpSampling2D,
        )
    },
    **{
        kind.__name__: kind
        for kind in (
            quantized.QActivation, quantized.QBatchNormalization, quantized.QConv1D, quantized.QConv2D,
            quantized.QDense, quantized.QDepthwiseConv2D, quantized.QSeparableConv1D, quantized.QSeparableConv2D,
        )
    },
    **dict.fromkeys(IDENTITIES, Identity),
    # Names that TensorFlow 1.x wrote.
    "BatchNormalizationV1": normalization.BatchNormalization,
    "BatchNormalizationV2": normalization.BatchNormalization,
}  # fmt: skip

# Bare functions on Keras tensors, `a + b` first of all. Unlike layers they take their operands as separate arguments.
OPERATIONS: Final[dict[str, type[Layer]]] = {
    "Add": merge.Add,
    "Subtract": merge.Subtract,
    "Multiply": merge.Multiply,
    "Maximum": merge.Maximum,
    "Minimum": merge.Minimum,
    **dict.fromkeys(("Relu", "Relu6", "Sigmoid", "Tanh"), activation.Function),
}

QKERAS: Final = (
    "QAdaptiveActivation", "QConv2DTranspose", "QMobileNetSeparableConv2D", "QConv2DBatchnorm", "QDenseBatchnorm",
    "QDepthwiseConv2DBatchnorm", "QAveragePooling2D", "QGlobalAveragePooling2D", "QSimpleRNN", "QLSTM", "QGRU",
    "QBidirectional", "QOctaveConv2D",
)  # fmt: skip
"""Layers of QKeras that are not supported."""
CODE: Final = ("Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod", "InstanceProperty")


def read_layer(fields: Fields, is_keras: bool, is_operation: bool, is_hgq: bool = False) -> Layer:
    """Reads one layer's settings. What is unsupported goes to `fields.problems`, and an identity stands for it."""
    kind = fields.kind
    layer = (OPERATIONS if is_operation else hgq.LAYERS if is_hgq else LAYERS).get(kind)
    if is_hgq and layer is None:
        fields.refuse("class", f"is a layer of HGQ2 that is not supported, only {', '.join(hgq.LAYERS)}")
    elif kind in QKERAS and not is_hgq:
        fields.refuse("class", "is a layer of QKeras that is not supported; export the model to QONNX")
    elif kind == "Lambda":
        fields.refuse("class", "holds Python code, which is never executed; use built-in layers")
    elif kind in CODE:
        fields.refuse("class", "is a bare TensorFlow function; use the layer of the same meaning (Add, ReLU, ...)")
    elif not is_keras and not is_hgq:
        fields.refuse("class", "is a custom class, its meaning is not in the file; export ONNX")
    elif layer is None:
        fields.refuse("class", "is not supported")
    else:
        found = layer.read(fields)
        fields.finish()
        return found
    return Identity()
