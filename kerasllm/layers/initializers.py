"""What values do weights start from? BERT's and GPT-2's recipes."""

import math

import keras

from kerasllm.config import Backbone

STDDEV = 0.02  # Devlin et al. 2019 and Radford et al. 2019


def initializer_for(options: Backbone, is_residual: bool = False) -> keras.initializers.Initializer:
    """A new initializer for one weight matrix (one object used twice would give equal values).

    Args:
      options: BERT truncates at two standard deviations, GPT-2 does not.
      is_residual: the matrix ends a residual branch; GPT-2 shrinks those by sqrt(2 num_layers), so that the sum of
        all branches starts at one scale for any depth (Radford et al. 2019, section 2.3).
    """
    if options.architecture == "bert":
        return keras.initializers.TruncatedNormal(stddev=STDDEV)
    return keras.initializers.RandomNormal(stddev=STDDEV / (math.sqrt(2 * options.num_layers) if is_residual else 1))
