"""From real numbers to fixed point: formats, weights, and the lowering of a whole graph."""
