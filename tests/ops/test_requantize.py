"""The cost of a Requantize: a shifter where a lane serves several channels."""

from toolchain.codegen.kernel import Folding
from toolchain.ir import FixedType, Overflow, Rounding, TensorType
from toolchain.ops.requantize import Requantize

TARGET = FixedType(8, 4, True, Rounding.RND, Overflow.SAT)


def lut(fractions, lanes):
    given = TensorType((3, 3, 4), 20, True, fractions, -(1 << 19), (1 << 19) - 1)
    operator = Requantize.between(given, TARGET)
    (kernel,) = operator.kernels((given,), operator.ranges(given), Folding(lanes))
    assert kernel.config["PERIOD"] == 4 // lanes
    return kernel.cost.lut


def test_a_shifter_a_lane_where_channels_take_turns():
    assert lut((9,), 1) == 20 + 8
    assert lut((9,), 4) == 4 * (20 + 8)
    assert lut((9, 12, 10, 14), 4) == 4 * (20 + 8)  # each lane has one shift, which is wiring
    assert lut((9, 12, 10, 14), 1) == 20 + 8 + (20 + 5) * 3 // 2  # shifts by 0 to 5 are 3 stages
    assert lut((9, 12, 10, 14), 2) == 2 * (20 + 8) + 2 * (20 + 5) * 3 // 2
    assert lut((9, 10, 9, 9), 1) == 20 + 8 + (20 + 1) // 2
