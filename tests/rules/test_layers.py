"""Do imports go downwards only? import-linter's contracts in setup.cfg, and rules that it cannot express."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HEAVY = {"keras", "keras_hub", "keras_nlp", "tensorflow", "tensorflow_serving", "tensorflow_text", "tf_keras"}
HEAVY_OF_OURS = {"data", "export", "interop", "layers", "losses", "metrics", "models", "text", "training"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


def imports(path: Path, *, at_top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; at the top only, or in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _outside_functions(tree) if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _outside_functions(node)


def is_program(path: Path) -> bool:
    return '__name__ == "__main__"' in path.read_text(encoding="utf-8")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def test_layers_import_downwards_only():
    linter = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run([linter, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, env=environment)
    report = done.stdout[max(0, done.stdout.find("Broken contracts")) :]
    assert done.returncode == 0, (
        f"{report}\n{done.stderr}\nAn import goes against the layers (setup.cfg, [importlinter]). Mend it by moving the"
        " shared part down to the lowest layer that needs it, or by passing the object in as an argument;"
        " do not add an exception."
    )


@pytest.mark.parametrize("path", sources("kerasllm"), ids=module_name)
def test_the_library_has_no_flags(path):
    found = [name for name in imports(path) if name.startswith("absl") and "flags" in name]
    assert not found, f"{path}: imports {found[0]}. Flags belong to programs: take the value as an argument."


@pytest.mark.parametrize("path", sources("serving/server"), ids=module_name)
def test_the_server_knows_saved_models_and_protos_only(path):
    for name in imports(path):
        root, _, rest = name.partition(".")
        ours = rest.partition(".")[0]
        assert "keras" not in root or root == "kerasllm", f"{path}: imports {name}. The server runs graphs, not layers."
        assert root != "kerasllm" or ours not in HEAVY_OF_OURS, f"{path}: imports {name}. Put it into the SavedModel."


@pytest.mark.parametrize("path", sources("serving/clients"), ids=module_name)
def test_clients_need_neither_tensorflow_nor_keras(path):
    for name in imports(path):
        root = name.partition(".")[0]
        assert root not in HEAVY, f"{path}: imports {name}. Clients speak through their own message classes."


@pytest.mark.parametrize("path", [path for path in sources("apps", "serving") if is_program(path)], ids=module_name)
def test_programs_import_nothing_heavy_before_flags_are_parsed(path):
    for name in imports(path, at_top_only=True):
        root, _, rest = name.partition(".")
        heavy = root in HEAVY or (root == "kerasllm" and rest.partition(".")[0] in HEAVY_OF_OURS)
        assert not heavy, f"{path}: imports {name} at the top. Import it inside main(), so that --help stays quick."


def test_no_program_loads_tensorflow_when_it_is_imported():
    programs = [module_name(path) for path in sources("apps", "serving") if is_program(path)]
    code = (
        "import importlib, sys\n"
        f"for name in {programs!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'tensorflow' in sys.modules or 'keras' in sys.modules:\n"
        "        sys.exit(f'{name} loads TensorFlow or Keras on import: import what needs it inside main()')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
