"""Load on servers: who asks, who answers, and with what model. The serving_*.py benchmarks stand on it."""
