"""The version of the package, which is also that of the library it needs.

The build takes it from include/visatb.h, the one place where it is written.
"""

from importlib.metadata import version

__version__ = version("visatb")
