"""Who may import whom, how long a file and a function may be, and where the big dependencies come in."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "data_prep", "vidgen_core")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
ALL_FILES = [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]

MAY_IMPORT = {
    "flows": {"flows", "data_prep", "vidgen_core"},
    "data_prep": {"data_prep", "vidgen_core"},
    "vidgen_core": {"vidgen_core"},
}
LAYERS = [
    {
        "shapes",
        "clip",
        "chance",
        "errors",
        "frozen",
        "digests",
        "outputs",
        "discovery",
        "licenses",
        "choices",
        "scene",
        "sampling",
        "scalars",
        "betas",
    },  # fmt: skip
    {"interfaces", "paths", "pyramid", "predictions", "layers", "weights"},
    {"networks", "objectives", "samplers", "guidance", "known", "codecs", "encoders"},
    {"families"},
    {"training", "evaluation", "applications"},
    {"registry"},
]
DOORS = {
    "fsspec": {"data_prep/storage.py"},
    "ray": {
        "data_prep/run.py",
        "vidgen_core/training/ray_train.py",
        "vidgen_core/training/ray_beside.py",
        "flows/cluster.py",
        "flows/launch/ray_jobs.py",
    },
    "prefect": {"flows"},
    "mlflow": {"vidgen_core/registry"},
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}


def imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> int:
    part = module.split(".")[1]
    return next(place for place, names in enumerate(LAYERS) if part in names)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_point_from_flows_to_data_prep_to_vidgen_core(file):
    package = file.relative_to(ROOT).parts[0]
    ours = {module.split(".")[0] for module in imports(file)} & set(PACKAGES)
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("file", [f for f in FILES if f.relative_to(ROOT).parts[0] == "vidgen_core"], ids=name)
def test_the_library_imports_only_lower_layers_or_its_own_folder(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) == 2:
        return
    own = layer_of(".".join(parts[:2]))
    for module in imports(file):
        if not module.startswith("vidgen_core."):
            continue
        same_folder = module.split(".")[1] == parts[1]
        neighbor = own == 0 or own == 1 or own == 2
        assert same_folder or layer_of(module) < own or (neighbor and layer_of(module) == own), module


@pytest.mark.parametrize("big", DOORS)
def test_big_dependencies_come_in_by_their_doors_only(big):
    users = {name(file) for file in FILES if any(m.split(".")[0] == big for m in imports(file))}
    strangers = {user for user in users if not any(user == door or user.startswith(f"{door}/") for door in DOORS[big])}
    assert not strangers


@pytest.mark.parametrize("file", ALL_FILES, ids=name)
def test_files_and_functions_are_short(file):
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("file", ALL_FILES, ids=name)
def test_no_file_is_a_drawer(file):
    assert file.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_module_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_no_merge_is_left_half_done():
    texts = [*ALL_FILES, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.*"), *(ROOT / "infra").rglob("*.yaml")]
    marked = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert [str(file) for file in texts if file.is_file() and marked.search(file.read_text(errors="replace"))] == []
