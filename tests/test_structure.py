"""Imports inside the package: folders import only from the folders below them, and no modules import in a circle."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "impala_tf"

LAYERS = (
    {"errors"},
    {"extensions"},
    {"processes", "programs", "quiet", "versions", "machine", "files", "tensor_leak"},
    {"structures"},
    {"suites"},
    {"config"},
    {"flags", "topology"},
    {"environments"},
    {"networks"},
    {"acting"},  # Below transport: an actor hands its unrolls to a function, whoever sends or checks them.
    {"transport"},
    {"learning"},
    {"records"},
    {"export"},
    {"evaluation"},
    {"roles"},
    {"architectures"},
    {"launch"},
    {"experiments"},
    {"api", "benchmark"},
)
"""Folders and modules of the package, the lowest first. Each may import itself and the layers below its own."""


def _modules() -> dict[str, ast.Module]:
    """{dotted name: source} of all modules of the package; a package has the name of its folder."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


MODULES = _modules()


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything that a module imports, in functions too; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not read"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(tree: ast.AST) -> set[str]:
    """Modules of the package that a module imports."""
    found = set()
    for name in imported(tree):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
    return found


IMPORTS = {name: own_imports(tree) for name, tree in MODULES.items()}


def layer(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def part_of(module: str) -> str:
    """The folder or module right below the package: `impala_tf.acting.policy` is in acting."""
    return module.split(".")[1]


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Import circles, each with its first module repeated at the end."""
    found, done = [], set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(imports[module]):
                visit(other, [*path, module])
            done.add(module)

    for module in imports:
        visit(module, [])
    return found


def violations(imports: dict[str, set[str]]) -> list[str]:
    """Imports from the same layer or a higher one, one line each."""
    lines = []
    for module, others in imports.items():
        for other in sorted(others - {PACKAGE}):
            here, there = part_of(module), part_of(other)
            if here != there and layer(there) >= layer(here):
                lines.append(f"{module} imports {other}")
    return lines


def test_every_part_has_a_layer():
    parts = {part_of(name) for name in MODULES if name != PACKAGE}
    assert parts == set().union(*LAYERS) and len(parts) == sum(map(len, LAYERS))


def test_imports_point_downwards():
    assert violations({name: others for name, others in IMPORTS.items() if name != PACKAGE}) == []


def test_the_package_itself_imports_next_to_nothing():
    assert IMPORTS[PACKAGE] == {f"{PACKAGE}.quiet", f"{PACKAGE}.versions"}


def test_no_modules_import_one_another():
    assert circles(IMPORTS) == []


def test_only_transport_imports_reverb():
    def uses_it(tree: ast.Module) -> bool:
        return not {"reverb", "tf_agents"}.isdisjoint(name.split(".")[0] for name in imported(tree))

    assert {part_of(name) for name, tree in MODULES.items() if uses_it(tree)} == {"transport"}


def test_evaluation_imports_no_training_code():
    """Directly or not. Of `export`, it reads SavedModels."""
    reached, left = set(), [name for name in MODULES if name.startswith(f"{PACKAGE}.evaluation")]
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left.extend(IMPORTS[module])
    of_export = {name for name in reached if name.startswith(f"{PACKAGE}.export")}
    assert of_export == {f"{PACKAGE}.export.saved_model"}
    assert {part_of(name) for name in reached - of_export - {PACKAGE}} <= {
        *("evaluation", "environments", "suites", "structures", "processes"),
        *("errors", "files", "machine", "programs", "quiet", "tensor_leak", "versions"),
    }


@pytest.mark.parametrize("folder", ["run", "paper_figures"])
def test_nothing_imports_the_programs(folder):
    users = [name for name, tree in MODULES.items() if any(i.split(".")[0] == folder for i in imported(tree))]
    assert users == []


def test_the_checks_find_what_they_look_for():
    imports = {f"{PACKAGE}.acting.a": {f"{PACKAGE}.acting.b"}, f"{PACKAGE}.acting.b": {f"{PACKAGE}.acting.a"}}
    assert circles(imports) == [[f"{PACKAGE}.acting.{x}" for x in "aba"]]
    assert violations(imports) == []
    for module, other in (
        ("processes.child", "config"),
        ("processes.child", "files"),
        ("acting.actor", "transport.writer"),
    ):
        line = f"{PACKAGE}.{module} imports {PACKAGE}.{other}"
        assert violations({f"{PACKAGE}.{module}": {f"{PACKAGE}.{other}"}}) == [line]
    source = "import reverb\ndef later():\n    from impala_tf.errors import UserError\n    from impala_tf import suites"
    assert imported(ast.parse(source)) == {"reverb", "impala_tf.errors.UserError", "impala_tf.suites"}
    assert own_imports(ast.parse(source)) == {"impala_tf.errors", "impala_tf.suites"}
