"""The house of the design, section 4: who may import whom, and what every tool has."""

from __future__ import annotations

import ast
import configparser
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "wsseg"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST = 400

#: Package -> the packages of ours that it may import besides itself; errors.py is everyone's.
BELOW: dict[str, set[str]] = {
    "cli": {"data", "train", "metrics", "budget", "annotate", "refine", "view", "native", "nets",
            "io"},
    "data": {"io"},
    "view": {"io"},
    "train": {"nets", "io"},
    # from arrays to arrays
    "annotate": {"native"},
    "refine": {"native", "nets"},
    "metrics": {"native"},
    "budget": set(),
    "nets": {"native"},
    "native": set(),
    "io": {"native"},
}
#: Third-party package -> the only packages, or files, of ours that may import it anywhere.
HOMES = {"torch": {"nets", "train", "refine"}, "torchvision": {"nets", "train", "refine"},
         "click": {"cli"}, "h5py": {"io/hdf5.py"}, "tqdm": {"cli"},
         "matplotlib": {"cli", "view"}, "sklearn": {"annotate", "refine"}}
#: What may be imported only when it is used.
LAZY = {("refine", "torch"), ("refine", "torchvision"), ("cli", "tqdm"), ("cli", "matplotlib"),
        ("view", "matplotlib")}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def is_typing(node: ast.AST) -> bool:
    """Whether this is ``if TYPE_CHECKING:``, whose body never runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def imports(path: Path) -> tuple[tuple[str, int, bool], ...]:
    """(module, line, whether it runs as soon as this module is imported) of each import."""
    found: list[tuple[str, int, bool]] = []

    def visit(node: ast.AST, at_once: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name_of(path).split(".")[:None if path.stem == "__init__" else -1]
                above = package[:len(package) - node.level + 1]
                base = ".".join([*above, *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((whole if whole in MODULES else base, node.lineno, at_once))
        inner = at_once and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef,
                                                  ast.Lambda)) and not is_typing(node)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(path.read_text(), str(path)), True)
    return tuple(dict.fromkeys(found))


def layer(name: str) -> str:
    """The package of ours that a module belongs to; '' for what lies beside them."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / parts[1]).is_dir() else ""


def test_every_package_has_its_place_in_the_layers():
    packages = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert packages <= BELOW.keys()


def test_the_layers_have_no_circle():
    def reach(package: str, above: tuple[str, ...]) -> None:
        assert package not in above, above
        for lower in BELOW[package]:
            reach(lower, (*above, package))

    for package in BELOW:
        reach(package, ())


def test_imports_point_down_only():
    wrong = []
    for path in FILES:
        here = layer(name_of(path))
        for name, line, _ in imports(path):
            if name.split(".")[0] != "wsseg" or not layer(name):
                continue
            if layer(name) not in {here, *BELOW.get(here, ())}:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_what_lies_beside_the_packages_imports_none_of_them():
    wrong = [f"{path.name}:{line} imports {name}" for path in SOURCE.glob("*.py")
             for name, line, _ in imports(path) if layer(name)]
    assert not wrong, "\n".join(wrong)


def test_big_libraries_stay_where_they_belong():
    wrong = []
    for path in FILES:
        here, file = layer(name_of(path)), path.relative_to(SOURCE).as_posix()
        for name, line, at_once in imports(path):
            library = name.split(".")[0]
            homes = HOMES.get(library)
            if homes is not None and not homes & {here, file}:
                wrong.append(f"{file}:{line} imports {name}")
            elif at_once and (here, library) in LAZY:
                wrong.append(f"{file}:{line} imports {name} before it is needed")
    assert not wrong, "\n".join(wrong)


def tools() -> dict[str, str]:
    """Tool -> the name of its module, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    words = dict(line.replace(" ", "").split("=") for line in lines)
    return {tool: target.removesuffix(":main") for tool, target in words.items()}


def loaded(name: str) -> dict[str, str]:
    """Module -> who imports it, for all that comes with importing ``name``."""
    found, queue = {name: ""}, [name]
    while queue:
        module = queue.pop()
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        direct = [n for n, _, at_once in imports(MODULES[module]) if at_once] \
            if module in MODULES else []
        for new in (*parents, *direct) if module.startswith("wsseg") else ():
            if new not in found:
                found[new] = module
                queue.append(new)
    return found


@pytest.mark.parametrize("tool", tools())
def test_importing_a_tool_loads_only_click_and_the_standard_library(tool):
    light = {"wsseg", "click", *sys.stdlib_module_names}
    heavy = [f"{name} (by {by})" for name, by in loaded(tools()[tool]).items()
             if name.split(".")[0] not in light]
    assert not heavy, heavy


def test_the_walk_over_imports_sees_what_a_heavy_module_loads():
    assert {"numpy", "wsseg.io.record"} <= loaded("wsseg.cli._flow").keys()
    assert "cv2" not in loaded("wsseg.cli.boxfill")  # it is imported in a function


def test_no_file_is_too_long():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
               for path in SOURCE.rglob("*") if path.suffix in (".py", ".cpp", ".h")}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


@pytest.mark.parametrize("tool", tools())
def test_every_tool_has_all_that_a_tool_has(tool):
    word = tool.removeprefix("ws-").replace("-", "_")
    assert tools()[tool] == f"wsseg.cli.{word}"
    files = (f"wsseg/cli/{word}.py", f"tests/cli/test_{word}.py", f"man/{tool}.1", f"bin/{tool}")
    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert (ROOT / "bin" / tool).stat().st_mode & 0o111 == 0o111


def test_every_tool_is_in_setup_cfg():
    written = {name_of(path) for path in (SOURCE / "cli").glob("[a-z]*.py")}
    assert written == set(tools().values())


def test_there_is_no_launcher_or_page_of_a_tool_that_is_gone():
    assert {p.name for p in (ROOT / "bin").iterdir()} <= tools().keys()
    assert {p.stem for p in (ROOT / "man").glob("*.1")} <= tools().keys()
