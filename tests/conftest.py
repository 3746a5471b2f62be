"""What do all tests share? Quiet TensorFlow, and four logical CPU devices for the tests of strategies."""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

NUM_LOGICAL_CPUS = 4

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


class ConfigureTensorFlowOnImport(importlib.abc.MetaPathFinder):
    """Splits the CPU into logical devices at the moment that TensorFlow is first imported.

    Only then: tests that need no TensorFlow stay fast. Not later: the first eager operation, which may stand at the
    top of a test module, fixes the devices of the process.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run_module = spec.loader.exec_module

        def run_and_configure(module: ModuleType) -> None:
            run_module(module)
            cpu = module.config.list_physical_devices("CPU")[0]
            devices = [module.config.LogicalDeviceConfiguration() for _ in range(NUM_LOGICAL_CPUS)]
            module.config.set_logical_device_configuration(cpu, devices)

        spec.loader.exec_module = run_and_configure  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, ConfigureTensorFlowOnImport())
