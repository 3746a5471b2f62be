"""Configuration: typed sections and their YAML form."""

from kerasllm.config.loader import differences, dump_run, load_run, make_run, part_of
from kerasllm.config.schema import (
    DISLIKED,
    LIKED,
    NEUTRAL,
    Backbone,
    Cluster,
    Data,
    Decisions,
    Export,
    LabelHead,
    Objective,
    Optimizer,
    Recommendation,
    Run,
    Tokenizer,
    Train,
)

__all__ = [
    "DISLIKED",
    "LIKED",
    "NEUTRAL",
    "Backbone",
    "Cluster",
    "Data",
    "Decisions",
    "Export",
    "LabelHead",
    "Objective",
    "Optimizer",
    "Recommendation",
    "Run",
    "Tokenizer",
    "Train",
    "differences",
    "dump_run",
    "load_run",
    "make_run",
    "part_of",
]
