"""Does the README tell the truth? Its quickstart runs as it stands there."""

import re
import runpy
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_quickstart_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len(code.strip().splitlines()) <= 12
    (tmp_path / "quickstart.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tmp_path / "quickstart.py"))
    printed = capsys.readouterr().out
    assert "(1, 3)" in printed
    assert len(re.findall(r"0\.\d+", printed)) == 6


def test_every_program_that_the_readme_names_is_there():
    root = README.parent
    names = set(re.findall(r"python -m ([\w.]+)", README.read_text(encoding="utf-8")))
    assert len(names) >= 8
    for name in names:
        path = root.joinpath(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
