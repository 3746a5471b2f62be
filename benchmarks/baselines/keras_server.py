"""A gRPC server around `model.predict`, as one would write it first: a Keras model in a handler.

    python -m benchmarks.baselines.keras_server FOLDER

It answers TensorFlow Serving's Predict with the model of benchmarks.load.minilm, from the same Hugging Face folder.
Rows are padded to a multiple of 16 tokens, so that few shapes are traced, all of them before the port opens.
"""

import sys
from concurrent import futures
from typing import Any

import grpc
import numpy as np

NUM_THREADS = 2  # of handlers: one fewer leaves a core idle, more only wait for each other
MULTIPLE = 16


def main() -> None:
    """Serves until it is ended."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from benchmarks.load.minilm import LENGTH
    from benchmarks.minilm_exports import read_encoder
    from kerasllm.text import pack_texts

    encoder, tokenizer = read_encoder(sys.argv[1], LENGTH)
    strings = tf.TensorSpec([None], tf.string)
    pack = tf.function(lambda texts: pack_texts(tokenizer, texts, None, LENGTH, MULTIPLE), input_signature=[strings])

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
            texts = list(request.inputs["text"].string_val)
            return answer(request, embed(texts))

    def embed(texts: list[bytes]) -> np.ndarray:
        rows = {key: value.numpy() for key, value in pack(tf.constant(texts)).items()}
        embeddings: np.ndarray = encoder.predict(rows, batch_size=len(texts), verbose=0)["embeddings"]
        return embeddings

    for length in range(MULTIPLE, LENGTH + 1, MULTIPLE):
        embed([b"a " * (length - 2)])
    server = grpc.server(futures.ThreadPoolExecutor(NUM_THREADS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listens at 127.0.0.1:{port} now", flush=True)
    server.wait_for_termination()


def answer(request: Any, embeddings: np.ndarray) -> Any:
    """A PredictResponse; packed, which costs less than typed fields."""
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import predict_pb2

    response = predict_pb2.PredictResponse()
    response.model_spec.CopyFrom(request.model_spec)
    tensor = response.outputs["embedding"]
    tensor.dtype = types_pb2.DT_FLOAT
    for size in embeddings.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = embeddings.tobytes()
    return response


if __name__ == "__main__":
    main()
