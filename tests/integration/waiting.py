"""How do tests wait for what another thread or process does?"""

import time

WAIT_S = 60.0  # on a machine that is busy with other things


def eventually(is_true):
    end = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end, f"it has not come to pass in {WAIT_S:g} s"
        time.sleep(0.01)
