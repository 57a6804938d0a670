"""The version of the package, which is also that of the library it needs.

The build takes it from include/visatb.h, the one place where it is written.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("visatb")
except PackageNotFoundError:
    raise ImportError(
        "visatb is not installed, only its Python files are here: install it in the source tree "
        "(pip install ./bindings/python), which builds its library too"
    ) from None
