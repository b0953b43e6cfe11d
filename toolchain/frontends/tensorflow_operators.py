"""TensorFlow's operators that only compute: numbers in, numbers out, and memory of the process.

What tf2onnx converts, less what handles text, queues, tables and data sets, plus what stands in the functions of a
SavedModel or is folded before the conversion. No other operator of a file is ever given to TensorFlow.
"""

from typing import Final

SOURCES: Final = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "IteratorGetNext")
"""Where a frozen graph has its inputs."""
_COMPUTING = """
Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin Asin Asinh Assert
Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchNormWithGlobalNormalization
BatchToSpace BatchToSpaceND BiasAdd BiasAddV1 Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs
BroadcastTo Cast Ceil CheckNumerics ClipByValue CombinedNonMaxSuppression ComplexAbs Concat ConcatOffset ConcatV2
Const ControlTrigger Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh CropAndResize CudnnRNN Cumprod
Cumsum DenseBincount DepthToSpace DepthwiseConv2dNative Div DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty
EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 ExtractImagePatches FFT FakeQuantWithMinMaxArgs
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm
FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN Invert
InvertPermutation IsFinite IsInf IsNan IteratorV2 L2Loss LRN LSTMBlockCell LeakyRelu LeftShift Less LessEqual
LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDeterminant MatrixDiag
MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiagV3 Max MaxPool
MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg NoOp
NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad
PadV2 ParallelDynamicStitch Pow PreventGradient Prod RFFT RFFT2D RandomShuffle RandomStandardNormal RandomUniform
RandomUniformInt Range Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
ResizeNearestNeighbor ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt ScatterNd SegmentMax SegmentMean
SegmentMin SegmentProd SegmentSum Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot
Softmax SoftmaxCrossEntropyWithLogits Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth
SparseSoftmaxCrossEntropyWithLogits SparseToDense Split SplitV Sqrt Square SquaredDifference Squeeze
StatelessRandomGetKeyCounter StatelessRandomUniformV2 StopGradient StridedSlice Sub Sum Tan Tanh TensorScatterAdd
TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv
TruncateMod Unique UniqueWithCounts Unpack UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
UnsortedSegmentSum Where Xdivy Xlogy ZerosLike

Enter Exit If LoopCond Merge NextIteration PartitionedCall StatefulPartitionedCall StatelessIf StatelessWhile Switch
While

EmptyTensorList TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArrayV3
TensorArrayWriteV3 TensorListConcatV2 TensorListFromTensor TensorListGetItem TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListResize TensorListSetItem TensorListStack

AssignAddVariableOp AssignSubVariableOp AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather VarHandleOp
VarIsInitializedOp
"""
COMPUTING: Final = frozenset(_COMPUTING.split()).union(SOURCES)
SAVING: Final = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
"""What the functions that every SavedModel has for saving and restoring itself reach files with."""
OUTPUTS: Final[dict[str, str | int]] = {
    "Split": "num_split",
    "SplitV": "num_split",
    "Unpack": "num",
    "TopK": 2,
    "TopKV2": 2,
}
"""Operators of several outputs: how many, or the attribute that tells it."""
_SEVERAL = """
CombinedNonMaxSuppression CudnnRNN DynamicPartition IdentityN If LSTMBlockCell MaxPoolWithArgmax Merge
NonMaxSuppressionV4 NonMaxSuppressionV5 PartitionedCall ShapeN SoftmaxCrossEntropyWithLogits
SparseSoftmaxCrossEntropyWithLogits StatefulPartitionedCall StatelessIf StatelessRandomGetKeyCounter StatelessWhile
Switch TensorArrayV3 TensorListConcatV2 TensorListPopBack Unique UniqueWithCounts While
"""
SEVERAL: Final = frozenset(_SEVERAL.split())
"""Operators of several outputs whose number is not read. A FusedBatchNorm has further ones for training only."""
