"""The contestants that ratios are formed of, by name."""

SEPARATE = "visatb, new gradient"
IN_PLACE = "visatb, in place"
C_CALL = "visatb, in place, C call"
LINEAR = "visatb, linear"
EAGER = "PyTorch eager"
COMPILED = "PyTorch compiled"
LINEAR_EAGER = "PyTorch eager, linear"
LINEAR_COMPILED = "PyTorch compiled, linear"
PASS = "pass in place"  # noqa: S105 - It is a pass over memory.
COPY = "copy to new memory"
COPY_NUMPY = "copy to new memory, NumPy"
COPY_WARM = "copy to memory already there"
PRODUCTS = "PyTorch's three matrix products"

GATHERED = ", gathered"  # what is added where the valid rows were gathered before
