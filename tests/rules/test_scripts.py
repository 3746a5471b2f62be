"""Do the scripts refuse what they cannot do, at once and in one clear line?"""

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DEMO = PROJECT / "scripts/demo"


def run(*command: str | Path, cwd: Path = PROJECT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dta", "x"], "unknown argument --dta. See scripts/demo --help."),
        (["--data"], "--data needs a folder"),
        (["--data", "no/such/folder"], "no/such/folder has no folder wikitext2."),
        (["--workdir", "tests"], "tests exists already. Give another --workdir, or remove it."),
    ],
)
def test_the_demo_refuses_wrong_arguments_before_it_does_anything(arguments, expected):
    done = run(DEMO, *arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert done.stdout == ""


def test_paths_are_meant_from_where_the_demo_is_called(tmp_path):
    (tmp_path / "mine").mkdir()
    done = run(DEMO, "--workdir", "mine", cwd=tmp_path)
    assert done.returncode != 0
    assert f"{tmp_path}/mine exists already" in done.stderr


def test_the_demo_explains_itself():
    done = run(DEMO, "--help")
    assert done.returncode == 0
    assert "scripts/demo --data DIR" in done.stdout


def test_a_python_that_does_not_start_or_is_too_old_is_passed_over(tmp_path):
    # Like the shim of a version manager: it is on the path and fails.
    shim = tmp_path / "python9"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    # In a copy without .venv, since an environment that works is kept whatever Python is named.
    scripts = tmp_path / "project/scripts"
    scripts.mkdir(parents=True)
    (scripts / "setup").write_text((PROJECT / "scripts/setup").read_text(encoding="utf-8"))
    done = run("bash", scripts / "setup", cwd=tmp_path, KERASLLM_PYTHON=f"{shim} no-such-python")
    assert done.returncode == 1
    assert "error: no working Python 3.11, 3.12 or 3.13 with venv found." in done.stderr


def test_an_environment_that_is_up_to_date_is_left_alone(tmp_path):
    # A .venv whose pip would fail: the stamp says that nothing has to be installed, so pip is not asked.
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    for name in ("setup.cfg", "pyproject.toml", "scripts/setup"):
        (project / name).write_text((PROJECT / name).read_text(encoding="utf-8"))
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\ncase "$*" in\n  "-m pip --version") exit 0 ;;\n  -c*) echo wanted ;;\n'
        "  *) touch installed; exit 0 ;;\nesac\n"
    )
    python.chmod(0o755)
    assert run("bash", project / "scripts/setup", "dev").returncode == 0
    assert (project / "installed").exists()
    (project / "installed").unlink()
    for extra in ("dev", ""):  # what has the tools has the programs too
        assert run("bash", project / "scripts/setup", extra).returncode == 0
        assert not (project / "installed").exists()
