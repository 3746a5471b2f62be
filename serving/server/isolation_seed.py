"""What is the process that those of versions are forked from? One that has imported TensorFlow, and waits.

Imported by that process alone, before anything else (`isolation_processes.prepare`).
"""

import atexit
import os
import signal

import serving.server.isolation_child  # noqa: F401  TensorFlow, once for all of them

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which a whole group gets: it ends with the server and its last version
atexit.register(os._exit, 0)  # at once: TensorFlow's own end takes seconds
