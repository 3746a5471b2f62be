"""Training: strategies, the loop, checkpoints, and what is written for TensorBoard."""

from kerasllm.training.actions import (
    Action,
    EmbeddingProjector,
    Profile,
    TensorBoard,
    confusion_picture,
)
from kerasllm.training.checkpoints import CheckpointFolder, find_checkpoint, load_backbone, restore_weights
from kerasllm.training.distribution import configure_devices, distributed, make_strategy
from kerasllm.training.loop import Trainer
from kerasllm.training.optimizers import make_optimizer
from kerasllm.training.workdir import Workdir, prepare_workdir
from kerasllm.training.workers import is_chief

__all__ = [
    "Action",
    "CheckpointFolder",
    "EmbeddingProjector",
    "Profile",
    "TensorBoard",
    "Trainer",
    "Workdir",
    "configure_devices",
    "confusion_picture",
    "distributed",
    "find_checkpoint",
    "is_chief",
    "load_backbone",
    "make_optimizer",
    "make_strategy",
    "prepare_workdir",
    "restore_weights",
]
