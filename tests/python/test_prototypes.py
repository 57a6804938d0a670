"""The ctypes side (visatb/_lib.py and _types.py) says exactly what include/visatb.h says.

The header is parsed by cffi, without a compiler. A function, struct, field, enum or constant that
stands in only one of the two fails here.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

from visatb import _lib, _version

cffi = pytest.importorskip("cffi", reason="cffi parses the header")

HEADER = Path(__file__).parents[2] / "include" / "visatb.h"
TEXT = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
UNFOLDED = TEXT.replace("\\\n", " ")
FUNCTION = re.compile(r"^VISATB_API\s+([^;]*?)(visatb_\w+)\(([^;]*)\);", re.MULTILINE)
FUNCTIONS = [match[2] for match in FUNCTION.finditer(TEXT)]
STRUCT_INITIALISERS = {
    "visatb_weights_options": ("VISATB_WEIGHTS_OPTIONS_INIT", {}),
    "visatb_layout": (r"VISATB_LAYOUT\(n\)", {"units": 7}),
    "visatb_balance_options": ("VISATB_BALANCE_OPTIONS_INIT", {}),
    "visatb_vitw_loss_args": ("VISATB_VITW_LOSS_ARGS_INIT", {}),
    "visatb_vitw_linear_loss_args": ("VISATB_VITW_LINEAR_LOSS_ARGS_INIT", {}),
    "visatb_linear_plan": ("VISATB_LINEAR_PLAN_INIT", {}),
    "visatb_loss_plan": ("VISATB_LOSS_PLAN_INIT", {}),
    "visatb_vocab_slice": ("VISATB_VOCAB_SLICE_INIT", {}),
    "visatb_method_options": ("VISATB_METHOD_OPTIONS_INIT", {}),
}


def parse_header() -> Any:
    """The header as cffi types; function f becomes the pointer type f_pointer, which cffi tells."""
    plain = re.sub(r"^[ \t]*#.*$", "", UNFOLDED, flags=re.MULTILINE)
    plain = re.sub(r'^extern "C" \{$|^\}$', "", plain, flags=re.MULTILINE)
    plain = FUNCTION.sub(r"typedef \1(*\2_pointer)(\3);", plain)
    ffi = cffi.FFI()
    ffi.cdef(plain)
    return ffi


FFI = parse_header()


def constants() -> dict[str, int]:
    """Every #define of a number."""
    return {
        name: int(value.rstrip("uU"), 0)
        for name, value in re.findall(r"^#define (VISATB_\w+) (\d\w*)$", TEXT, re.MULTILINE)
    }


def describe_c(kind: Any) -> str:
    """A C type as text: "int32", "void", "pointer to char", "visatb_layout"."""
    if kind.kind == "pointer":
        return f"pointer to {describe_c(kind.item)}"
    if kind.kind == "function":
        arguments = ", ".join(map(describe_c, kind.args))
        return f"function ({arguments}) to {describe_c(kind.result)}"
    if kind.kind == "struct":
        return str(kind.cname)
    if kind.kind == "enum":
        # ctypes knows no enums: an int of the same size takes their place.
        return f"int{8 * FFI.sizeof(kind)}"
    if kind.kind == "void" or kind.cname in ("char", "float", "double", "size_t"):
        return str(kind.cname)
    return describe_integer(FFI.sizeof(kind), signed=int(FFI.cast(kind, -1)) < 0)


def describe_integer(size: int, *, signed: bool) -> str:
    return f"{'' if signed else 'u'}int{8 * size}"


def describe_ctypes(kind: Any) -> str:
    """The same text for a ctypes type."""
    if kind is None:
        return "void"
    named = {
        ctypes.c_char_p: "pointer to char",
        ctypes.c_void_p: "pointer to void",
        ctypes.c_float: "float",
        ctypes.c_double: "double",
        **{struct: name for name, struct in _lib.STRUCTS.items()},
    }
    if kind in named:
        return named[kind]
    if issubclass(kind, ctypes._CFuncPtr):
        arguments = ", ".join(map(describe_ctypes, kind._argtypes_))
        return f"function ({arguments}) to {describe_ctypes(kind._restype_)}"
    if issubclass(kind, ctypes._Pointer):
        return f"pointer to {describe_ctypes(kind._type_)}"
    return describe_integer(ctypes.sizeof(kind), signed=kind(-1).value < 0)


def same(c_kind: Any, ctypes_kind: Any) -> bool:
    # size_t and uint64_t are one type to ctypes.
    size_t = describe_integer(ctypes.sizeof(ctypes.c_size_t), signed=False)
    return describe_c(c_kind).replace("size_t", size_t) == describe_ctypes(ctypes_kind)


def header_structs() -> list[str]:
    return re.findall(r"typedef struct (visatb_\w+)", TEXT)


def test_no_function_is_missing_on_either_side() -> None:
    assert len(FUNCTIONS) == len(re.findall("^VISATB_API ", TEXT, re.MULTILINE))
    assert list(_lib.PROTOTYPES) == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_types_of_the_header(name: str) -> None:
    function = FFI.typeof(f"{name}_pointer")
    result, arguments = _lib.PROTOTYPES[name]
    assert same(function.result, result), describe_c(function.result)
    assert len(arguments) == len(function.args)
    for position, (of_header, ours) in enumerate(zip(function.args, arguments, strict=True)):
        assert same(of_header, ours), f"argument {position}: {describe_c(of_header)}"


def test_no_struct_is_missing_on_either_side() -> None:
    assert sorted(_lib.STRUCTS) == sorted(header_structs())


@pytest.mark.parametrize("name", header_structs())
def test_a_struct_has_the_fields_and_offsets_of_the_header(name: str) -> None:
    c_struct, ours = FFI.typeof(name), _lib.STRUCTS[name]
    fields = getattr(ours, "_fields_", [])
    if c_struct.fields is None:  # opaque
        assert not fields
        return
    assert [field for field, _ in fields] == [field for field, _ in c_struct.fields]
    assert ctypes.sizeof(ours) == FFI.sizeof(c_struct)
    for (field, kind), (_, c_field) in zip(fields, c_struct.fields, strict=True):
        assert getattr(ours, field).offset == c_field.offset, field
        assert getattr(ours, field).size == FFI.sizeof(c_field.type), field
        assert same(c_field.type, kind), f"{field}: {describe_c(c_field.type)}"


@pytest.mark.parametrize("name", STRUCT_INITIALISERS)
def test_a_new_struct_is_what_its_initialiser_macro_gives(name: str) -> None:
    macro, arguments = STRUCT_INITIALISERS[name]
    body = re.search(rf"#define {macro}\s*\{{(.*?)\}}", UNFOLDED)
    assert body is not None
    expected: dict[str, float] = dict.fromkeys((f for f, _ in FFI.typeof(name).fields), 0)
    for field, value in re.findall(r"\.(\w+) = ([^,]+?)\s*(?:,|$)", body[1]):
        known = {f"sizeof({name})": FFI.sizeof(name), "(n)": arguments.get("units", 0)}
        expected[field] = known[value] if value in known else float(value)
    ours = _lib.STRUCTS[name](**arguments)
    for field, value in expected.items():
        found = getattr(ours, field)
        assert (found if isinstance(found, (int, float)) else bool(found)) == value, field


def test_every_struct_with_a_size_has_an_initialiser_test() -> None:
    sized = {name for name in _lib.STRUCTS if "size" in dict(FFI.typeof(name).fields or [])}
    assert sized == set(STRUCT_INITIALISERS)


def test_no_enum_is_missing_on_either_side() -> None:
    assert sorted(_lib.ENUMS) == sorted(re.findall(r"typedef enum (visatb_\w+)", TEXT))


@pytest.mark.parametrize("name", _lib.ENUMS)
def test_an_enum_has_the_values_of_the_header(name: str) -> None:
    # Constants of a status have no prefix of their own, and some enums a shorter one.
    short = {
        "visatb_status": "",
        "visatb_report_code": "report",
        "visatb_cpu_path": "cpu",
        "visatb_cuda_path": "cuda",
        "visatb_method_kind": "method",
    }
    prefix = short.get(name, name.removeprefix("visatb_"))
    header = {
        re.sub(rf"^VISATB_({prefix.upper()}_)?", "", value): number
        for value, number in FFI.typeof(name).relements.items()
    }
    assert {member.name: member.value for member in _lib.ENUMS[name]} == header


def test_every_constant_is_known() -> None:
    version = {f"VISATB_VERSION_{part}" for part in ("MAJOR", "MINOR", "PATCH")}
    known = {
        "VISATB_ALLOW_NEGATIVE_DENOMINATOR": _lib.ALLOW_NEGATIVE_DENOMINATOR,
        "VISATB_SLICE_STATISTICS": _lib.SLICE_STATISTICS,
    }
    assert constants().keys() - version == known.keys()
    assert {name: constants()[name] for name in known} == known


def test_the_package_has_the_version_of_the_header() -> None:
    numbers = [constants()[f"VISATB_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH")]
    assert _version.__version__ == ".".join(map(str, numbers))
    # Before 1.0 the minor version counts.
    assert f"libvisatb.so.{numbers[0]}.{numbers[1]}" == _lib.SONAME


def test_the_comparison_itself_tells_types_apart() -> None:
    """A comparison that says yes to everything would pass the tests above."""
    double = FFI.typeof("double *")
    assert same(double, ctypes.POINTER(ctypes.c_double))
    for other in (ctypes.c_float, ctypes.c_int64, ctypes.c_uint8):
        assert not same(double, ctypes.POINTER(other))
    assert not same(FFI.typeof("int32_t"), ctypes.c_uint32)
    assert not same(FFI.typeof("int32_t"), ctypes.c_int64)
