"""How does a running server follow its --model_config_file? Reads it again and again, and takes over what changed."""

import threading

from absl import logging
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from kerasllm.errors import ServingError
from serving.server.model_config import model_configs, parse_model_server_config
from serving.server.status import invalid
from serving.server.versions import Models


class ConfigFile:
    """A ModelServerConfig in text form that is watched until `stopped` is set.

    A file that cannot be read or holds something that cannot be served changes nothing; it is logged, and read again.
    """

    def __init__(self, path: str, models: Models, stopped: threading.Event) -> None:
        self._path = path
        self._models = models
        self._stopped = stopped
        self._taken: ModelServerConfig | None = None  # it may have changed since the server read it at its start
        self._complaint = ""

    def watch(self, seconds: float) -> threading.Thread:
        """Looks at the file in a thread, every so many seconds."""
        thread = threading.Thread(target=self._keep_looking, args=(seconds,), name="config-file", daemon=True)
        thread.start()
        return thread

    def _keep_looking(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            try:
                self.look()
            except ServingError as error:
                if str(error) != self._complaint:
                    logging.error("%s is not taken over, and will be read again: %s", self._path, error)
                self._complaint = str(error)
            except Exception:
                logging.exception("Following %s failed; what is served stays, and it is tried again.", self._path)

    def look(self) -> None:
        """Reads the file once, and takes it over if it is another one than that of before.

        Raises:
          StatusError: it cannot be taken over.
        """
        parsed = parse_model_server_config(self._path)
        if parsed == self._taken:
            return
        if not parsed.HasField("model_config_list"):
            raise invalid(f"{self._path}: names no model_config_list. An empty list would unload all models.")
        self._models.reload(model_configs(parsed, self._models.names()), lambda: not self._stopped.is_set())
        self._taken, self._complaint = parsed, ""
        logging.info("Took over %s: %s.", self._path, ", ".join(self._models.names()) or "no models")
