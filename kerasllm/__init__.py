"""kerasllm: language models on TensorFlow and Keras, from raw text to a served answer."""
