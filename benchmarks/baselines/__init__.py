"""What does a method without a neural network reach on the same rows? Functions over plain arrays, no TensorFlow."""
