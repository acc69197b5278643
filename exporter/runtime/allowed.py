"""The operators that a model file may run: those on tensors whose work is bounded by their sizes.

Left out are what repeats a graph until a condition holds or over a sequence (a loop may never end), sequences
and optional values, texts, chance, pictures and losses, and of onnxruntime's own whatever searches, samples,
keeps a state or opens another file (`EPContext`). Which of these operators make a reranker is for the
verifier to find.
"""

from __future__ import annotations

# Source: https://github.com/onnx/onnx/blob/main/docs/Operators.md, sets 13 to 24
_ONNX = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
BatchNormalization BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast
CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat Constant ConstantOfShape Conv ConvInteger
ConvTranspose Cos Cosh CumProd CumSum DFT DepthToSpace DequantizeLinear Det Div Dropout
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul
Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN
Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RotaryEmbedding Round ScatterElements
ScatterND Selu Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size Slice Softmax
Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu Tile TopK
Transpose Trilu Unique Unsqueeze Where Xor
"""
# What onnxruntime's optimizers and quantizers make of encoders, and what is near to it.
# Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
_ONNXRUNTIME = """
Attention BiasAdd BiasGelu BiasSoftmax DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul
EmbedLayerNormalization ExpandDims FastGelu FusedConv FusedGemm FusedMatMul FusedMatMulActivation
GatedRelativePositionBias GatherBlockQuantized GatherND Gelu GemmFastGelu GroupQueryAttention Inverse
MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits MulInteger MultiHeadAttention
PackedAttention PackedMultiHeadAttention Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd
QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range
ReduceSumInteger RelativePositionBias RemovePadding RestorePadding RotaryEmbedding SkipLayerNormalization
SkipSimplifiedLayerNormalization TransposeMatMul Trilu
"""
# By the name of the set; ONNX's own has two names.
# Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (operator sets)
ONNX_OPERATORS = {
    name: frozenset(names.split())
    for name, names in {"": _ONNX, "ai.onnx": _ONNX, "com.microsoft": _ONNXRUNTIME}.items()
}
# Of OpenVINO's sets 1 to 16, as an IR spells them.
# Source: https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets/available-opsets.html
_OPENVINO = """
Abs Acos Acosh AdaptiveAvgPool AdaptiveMaxPool Add Asin Asinh Atan Atanh AvgPool BatchNormInference
BatchToSpace BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Broadcast
Bucketize Ceiling Clamp Concat Const Convert ConvertLike ConvertPromoteTypes Convolution
ConvolutionBackpropData Cos Cosh CumSum DepthToSpace Divide Einsum Elu EmbeddingBagOffsetsSum
EmbeddingBagPackedSum EmbeddingSegmentsSum Equal Erf Exp Eye FakeConvert FakeQuantize Floor FloorMod
GRUCell GRUSequence Gather GatherElements GatherND Gelu Greater GreaterEqual GroupConvolution
GroupConvolutionBackpropData GroupNormalization HSigmoid HSwish HardSigmoid If Interpolate Inverse
IsFinite IsInf IsNaN LRN LSTMCell LSTMSequence Less LessEqual Log LogSoftmax LogicalAnd LogicalNot
LogicalOr LogicalXor MVN MatMul MaxPool Maximum Minimum Mish Mod Multiply Negative NonZero NormalizeL2
NotEqual OneHot PRelu Pad Parameter Power RMS RNNCell RNNSequence Range ReLU ReduceL1 ReduceL2
ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Result
Reverse ReverseSequence Roll Round ScaledDotProductAttention ScatterElementsUpdate ScatterNDUpdate
ScatterUpdate SearchSorted Select Selu ShapeOf Sigmoid Sign Sin Sinh Slice SliceScatter SoftMax SoftPlus
SoftSign Softmax Softplus SpaceToBatch SpaceToDepth Split Sqrt SquaredDifference Squeeze StridedSlice
Subtract Swish Tan Tanh Tile TopK Transpose Unique Unsqueeze VariadicSplit
"""
OPENVINO_OPERATORS = frozenset(_OPENVINO.split())
