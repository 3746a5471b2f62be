"""Does a fine-tuning start where it says, and are its decisions fitted per head?"""

import pytest

from kerasllm import fine_tuning
from kerasllm.config import make_run
from kerasllm.errors import ConfigError


def test_a_start_from_random_weights_needs_a_vocabulary():
    with pytest.raises(ConfigError, match="give --init_from"):
        fine_tuning.starting_point(make_run({}), None, None)


def test_a_folder_of_neither_kind_is_no_start(tmp_path):
    with pytest.raises(ConfigError, match="neither a workdir"):
        fine_tuning.starting_point(make_run({}), str(tmp_path), None)
