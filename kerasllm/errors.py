"""Which errors are ours? Every mistake a user can make ends in one of these, with what, why and how to mend.

KerasLLMError
├── ConfigError        a YAML file, a --set override or a flag does not say something we can run
├── DataError          an input file, a shard or a label is not what it has to be
├── CheckpointError    a saved state is missing, damaged, or of another shape
├── TrainingError      a run cannot go on: the numbers, the machine or a peer failed
├── ExportError        a model cannot become a SavedModel that the servers run
└── ServingError       a server cannot start, or answered a client with an error
    ├── ServerUnavailable
    ├── DeadlineExceeded
    ├── ModelNotFound
    └── InvalidRequest
"""


class KerasLLMError(Exception):
    """The root of all errors that a user of the project can cause and mend."""


class ConfigError(KerasLLMError):
    """The configuration or a flag is wrong."""


class DataError(KerasLLMError):
    """The data is missing, damaged, or of another form than the configuration says."""


class CheckpointError(KerasLLMError):
    """A checkpoint cannot be written, or cannot be read into this model."""


class TrainingError(KerasLLMError):
    """Training stopped for a reason that starting again will not cure by itself."""


class ExportError(KerasLLMError):
    """The export is not, or would not be, a SavedModel that TensorFlow Serving runs."""


class ServingError(KerasLLMError):
    """A server could not start, or a call to it failed."""


class ServerUnavailable(ServingError):
    """Nobody answers at the address, or the server cannot take the call now."""


class DeadlineExceeded(ServingError):
    """The answer did not come within the time that the caller gave."""


class ModelNotFound(ServingError):
    """The server does not serve the model or the version asked for."""


class InvalidRequest(ServingError):
    """The server refused the request: a wrong name, type or shape."""
