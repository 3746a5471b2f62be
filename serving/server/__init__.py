"""The embedded model server: TensorFlow Serving's gRPC protocol without its binary."""
