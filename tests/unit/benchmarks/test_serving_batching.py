"""Does the benchmark of batching measure an encoder that answers alike with and without it?"""

import numpy as np

from benchmarks.serving_batching import measure, write_encoder
from serving.server.batching import Batching
from serving.server.batching_parameters import BatchingParameters
from serving.server.engine import Engine


def test_every_thread_is_answered_and_batching_changes_no_score(tmp_path):
    write_encoder(tmp_path / "1", num_layers=1, hidden_dim=8, num_tokens=4)
    batching = Batching(BatchingParameters(max_batch_size=2, num_batch_threads=1))
    scores = []
    for engine in (Engine(tmp_path / "1"), batching.load(tmp_path / "1")):
        rate, delays = measure(engine, num_threads=3, num_tokens=4, seconds=0.0)
        assert rate > 0
        assert len(delays) == 3
        signature = engine.signatures["serving_default"]
        feed = (signature.inputs["token_ids"].name, np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32))
        scores.append(engine.run([feed], [signature.outputs["scores"].name])[0])
        engine.close()
    batching.close()
    assert scores[0].shape == (2, 2)
    np.testing.assert_allclose(*scores, rtol=1e-5)
