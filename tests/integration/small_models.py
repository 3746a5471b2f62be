"""Which models do several tests of serving load? Small ones, written by TensorFlow alone."""


def write_half_plus_two(directory):
    """Y = x / 2 + 2 in the version-1 form, with Classify and Regress signatures over tf.train.Examples."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        half, two = v1.get_variable("a", initializer=0.5), v1.get_variable("b", initializer=2.0)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(half, x), two, name="y")
        info = v1.saved_model.build_tensor_info

        def signature(inputs, outputs):
            return v1.saved_model.signature_def_utils.build_signature_def(inputs, outputs, "tensorflow/serving/predict")

        builder = v1.saved_model.Builder(str(directory))
        session.run(v1.global_variables_initializer())
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature({"x": info(x)}, {"y": info(y)}),
                "classify_x_to_y": signature({"inputs": info(examples)}, {"scores": info(y)}),
                "regress_x_to_y": signature({"inputs": info(examples)}, {"outputs": info(y)}),
            },
        )
        builder.save()


def write_parrot(directory):
    """A model of texts that says its prompt again and again, a word being a prompt; it streams, and loads at once."""
    import json

    import tensorflow as tf

    def say(prompt, num_tokens, limit):
        repeated = tf.map_fn(
            lambda row: tf.strings.reduce_join(tf.repeat(row[0], row[1])), (prompt, num_tokens), tf.string
        )
        is_done = num_tokens >= limit
        return {
            "text": repeated,
            "num_tokens": num_tokens,
            "num_prompt_tokens": tf.ones_like(num_tokens),
            "finish_reason": tf.where(is_done, "length", ""),
            "is_done": is_done,
            "said": prompt,
        }

    def whole(prompt, max_new_tokens, temperature, top_p, seed, stop):
        return say(prompt, max_new_tokens, max_new_tokens)

    def first(prompt, max_new_tokens, temperature, top_p, seed, stop):
        return say(prompt, tf.minimum(max_new_tokens, 1), max_new_tokens)

    def following(said, num_tokens, is_done, max_new_tokens, chunk_tokens):
        return say(said, tf.minimum(num_tokens + chunk_tokens, max_new_tokens), max_new_tokens)

    rows = {"prompt": tf.string, "max_new_tokens": tf.int32, "temperature": tf.float32, "top_p": tf.float32}
    begun = {name: tf.TensorSpec([None], kind) for name, kind in (rows | {"seed": tf.int64}).items()}
    begun["stop"] = tf.TensorSpec([None, None], tf.string)
    carried = {"said": tf.string, "num_tokens": tf.int32, "is_done": tf.bool}
    others = carried | {"max_new_tokens": tf.int32, "chunk_tokens": tf.int32}
    gone_on = {name: tf.TensorSpec([None], kind) for name, kind in others.items()}
    signatures = {
        "generate": tf.function(whole).get_concrete_function(**begun),
        "prefill": tf.function(first).get_concrete_function(**begun),
        "decode_chunk": tf.function(following).get_concrete_function(**gone_on),
    }
    tf.saved_model.save(tf.Module(), str(directory), signatures)
    contract = {
        "format_version": 1,
        "whole": "generate",
        "first": "prefill",
        "next": "decode_chunk",
        "carried": list(carried),
        "done": "is_done",
        "chunk": "chunk_tokens",
        "defaults": {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": [""]},
    }
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "streaming.json").write_text(json.dumps(contract), encoding="utf-8")
