"""What do tests of versions share? Folders that come and go, and a model that is only a folder."""

from serving.server.status import Code, StatusError
from serving.server.versions import LoadPolicy, ModelConfig, State

AT_ONCE = LoadPolicy(max_retries=0, rest_seconds=0)


class FakeEngine:
    """Stands for a loaded model: a folder with a file named `good` loads, any other fails."""

    def __init__(self, folder):
        if not (folder / "good").exists():
            raise StatusError(Code.NOT_FOUND, f"nothing in {folder.name}")
        self.closed = False
        self.end = None

    def why_ended(self):
        return self.end

    def close(self):
        self.closed = True


def add(base, name, good=True):
    (base / name).mkdir(parents=True)
    if good:
        (base / name / "good").touch()


def config_of(base, name, **policy):
    return ModelConfig(name, base / name, **policy)


def served(models):
    return [version.number for version in models.versions("m") if version.state == State.AVAILABLE]
