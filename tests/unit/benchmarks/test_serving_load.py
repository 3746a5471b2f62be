"""Does the benchmark of load compare what it says, round by round?"""

from benchmarks import serving_load
from benchmarks.load import minilm
from serving.clients import arrays, messages

VALUES = {
    "in process, batch 32, 1 threads": {"rate": [100.0, 50.0, 200.0]},
    "kerasllm, 1": {"rate": [10.0, 10.0, 10.0]},
    "kerasllm, 64": {"rate": [80.0, 45.0, 120.0]},
}


def test_the_line_with_the_best_median_stands_for_a_side():
    assert serving_load.best_of(VALUES, serving_load.OURS) == ("kerasllm, 64", 80.0)


def test_ratios_are_of_figures_of_one_round():
    text = serving_load.spread(VALUES, "kerasllm, 64", "in process, batch 32, 1 threads")
    assert text == "0.80 (0.60 to 0.90)"  # 80 / 100, 45 / 50, 120 / 200


def test_sentences_are_drawn_without_repeating_and_become_requests(tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"text {number}\tneutral\n" for number in range(9)))
    sentences = minilm.read_sentences(str(path), 9)
    assert sorted(sentences) == [f"text {number}" for number in range(9)]
    request = messages.PredictRequest.FromString(minilm.predict_requests(sentences)[0])
    assert request.model_spec.name == "minilm"
    assert arrays.to_array(request.inputs["text"]).tolist() == [sentences[0].encode()]
