"""Writes TFLite files by the schema, tensor by tensor: no TensorFlow is needed to test."""

import flatbuffers
import numpy as np
import tflite

ELEMENTS = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "int4": tflite.TensorType.INT4,
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
    "int16": tflite.TensorType.INT16,
}


class Network:
    """Tensors and operators in order; `write` gives the bytes."""

    def __init__(self):
        self.tensors, self.operators = [], []
        self.share_buffers = False

    def tensor(self, shape, element="float32", data=None, scale=None, zero=0, axis=0, name=None, signature=None):
        """A tensor's number. `scale` and `zero` are numbers or lists."""
        name = name if name is not None else f"t{len(self.tensors)}"
        quantization = None if scale is None else (np.atleast_1d(scale), np.atleast_1d(zero), axis)
        self.tensors.append((name, tuple(shape), element, data, quantization, signature))
        return len(self.tensors) - 1

    def constant(self, array, **more):
        array = np.asarray(array)
        return self.tensor(array.shape, str(array.dtype), array, **more)

    def operator(self, kind, inputs, outputs, options="", version=1, **fields):
        """`options` is the name of the table without `Options`, `fields` its fields."""
        self.operators.append((kind, list(inputs), list(outputs), options, fields, version))

    def bytes(self, inputs, outputs):
        b = flatbuffers.Builder(1024)
        if self.share_buffers:  # those of one array
            places = {id(t[3]): t[3] for t in self.tensors if t[3] is not None}
            buffers = [self._buffer(b, None), *(self._buffer(b, data) for data in places.values())]
            numbers = [list(places).index(id(t[3])) + 1 if t[3] is not None else 0 for t in self.tensors]
        else:
            buffers = [self._buffer(b, None), *(self._buffer(b, t[3]) for t in self.tensors)]
            numbers = [k + 1 for k in range(len(self.tensors))]
        tensors = [self._tensor(b, number, *t) for number, t in zip(numbers, self.tensors, strict=True)]
        codes = [self._code(b, op[0], op[5]) for op in self.operators]
        operators = [self._operator(b, k, *op) for k, op in enumerate(self.operators)]
        ends = _numbers(b, np.int32(inputs)), _numbers(b, np.int32(outputs))
        vectors = [_offsets(b, v) for v in (tensors, operators)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, vectors[0])
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, vectors[1])
        graphs = _offsets(b, [tflite.SubGraphEnd(b)])
        codes, buffers = _offsets(b, codes), _offsets(b, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def write(self, path, inputs, outputs):
        path.write_bytes(self.bytes(inputs, outputs))
        return path

    @staticmethod
    def _buffer(b, data):
        content = None if data is None else _numbers(b, np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8))
        tflite.BufferStart(b)
        if content is not None:
            tflite.BufferAddData(b, content)
        return tflite.BufferEnd(b)

    @staticmethod
    def _tensor(b, buffer, name, shape, element, _, quantization, signature):
        table = None
        if quantization:
            scales, zeros = _numbers(b, np.float32(quantization[0])), _numbers(b, np.int64(quantization[1]))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zeros)
            tflite.QuantizationParametersAddQuantizedDimension(b, quantization[2])
            table = tflite.QuantizationParametersEnd(b)
        sizes, text = _numbers(b, np.int32(shape)), b.CreateString(name)
        free = None if signature is None else _numbers(b, np.int32(signature))
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, sizes)
        if free is not None:
            tflite.TensorAddShapeSignature(b, free)
        tflite.TensorAddType(b, ELEMENTS[element])
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, text)
        if table is not None:
            tflite.TensorAddQuantization(b, table)
        return tflite.TensorEnd(b)

    @staticmethod
    def _code(b, kind, version):
        number = getattr(tflite.BuiltinOperator, kind)
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(b, number)
        tflite.OperatorCodeAddVersion(b, version)
        return tflite.OperatorCodeEnd(b)

    @staticmethod
    def _operator(b, code, _, inputs, outputs, options, fields, __):
        ends = _numbers(b, np.int32(inputs)), _numbers(b, np.int32(outputs))
        table = None
        if options:
            fields = {key: _numbers(b, np.int32(v)) if isinstance(v, list) else v for key, v in fields.items()}
            getattr(tflite, f"{options}OptionsStart")(b)
            for key, value in fields.items():
                getattr(tflite, f"{options}OptionsAdd{key}")(b, value)
            table = getattr(tflite, f"{options}OptionsEnd")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, ends[0])
        tflite.OperatorAddOutputs(b, ends[1])
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, f"{options}Options"))
            tflite.OperatorAddBuiltinOptions(b, table)
        return tflite.OperatorEnd(b)


def _numbers(b, array):
    return b.CreateNumpyVector(array)


def _offsets(b, offsets):
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
