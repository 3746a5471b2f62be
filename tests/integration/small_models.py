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
