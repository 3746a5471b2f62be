"""What is one optimizer step? Sums on the replicas, then one exact mean, one clip and one update for all of them.

# R replicas, A accumulation slices of a replica's rows
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from kerasllm.losses import Head
from kerasllm.training.graphs import BatchFunction
from kerasllm.training.workers import num_workers

Batch = dict[str, tf.Tensor]
Totals = dict[str, tf.Tensor]


class TrainStep:
    """Computes gradients of the global batch's exact loss and updates the weights, as one graph.

    The loss is sum over heads of weight * (sum of the head's losses) / (its real targets in the global batch), so it
    depends neither on padding nor on how many replicas and slices the rows are spread over. A step whose loss or
    gradient norm is not finite leaves weights, slots and the optimizer's count as they are, bit for bit; the caller's
    step number (data, dropout) goes on.

    Args:
      strategy, model, optimizer: the latter two made under the strategy's scope, and built. Where the optimizer has
        `starts`, a variable has neither gradient nor update before its first step; the graph is made anew at each.
      heads: what is learned.
      accumulation: slices of a replica's rows that are computed one after another.
      clip_norm: largest norm of the global gradient; None does not clip.
      seed: of dropout, which is keyed by (seed, step, replica, slice).
      on_trace: called whenever a graph is made.
      jit_compile: XLA compiles what each replica computes, see `should_compile`.

    Attributes:
      graph: to be told what the batches will look like, so that all of them share a graph.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        heads: Sequence[Head],
        accumulation: int,
        clip_norm: float | None,
        seed: int,
        on_trace: Callable[[], None] = lambda: None,
        jit_compile: bool = False,
    ) -> None:
        self.strategy = strategy
        self.model = model
        self.optimizer = optimizer
        self.heads = tuple(heads)
        self.accumulation = accumulation
        self.clip_norm = clip_norm
        self.seed = seed
        self.on_trace = on_trace
        self.jit_compile = jit_compile
        self.names: tuple[str, ...] = ()  # of the numbers that a call returns; known after the first one
        self._starts: tuple[int, ...] = getattr(optimizer, "starts", ()) or (0,) * len(model.trainable_variables)
        self.graph = BatchFunction(self._run)

    def __call__(self, batch: Batch, step: int) -> tf.Tensor:
        """Does step number `step` (from 0) on a global (distributed) batch.

        Returns:
          [K] float32, the numbers named by `names`; sums over the batch, for the caller to add up before it divides.
        """
        return self.graph(batch, tf.constant(step, tf.int32), self.stage(step))

    @property
    def stages(self) -> list[int]:
        """The steps from which on more variables learn than before."""
        return sorted(set(self._starts))

    def stage(self, step: int) -> int:
        """The newest of the stages at a step."""
        return max(start for start in self._starts if start <= step)

    def learning(self, stage: int) -> list[keras.Variable]:
        """The variables that learn in a stage."""
        pairs = zip(self.model.trainable_variables, self._starts, strict=True)
        return [variable for variable, start in pairs if start <= stage]

    def _run(self, batch: Batch, step: tf.Tensor, stage: int) -> tf.Tensor:
        self.on_trace()  # Python runs here only while TensorFlow makes the graph
        variables = self.learning(stage)
        targets = _reduced(self.strategy, self.strategy.run(self._count, (batch,)))

        def sum_slices(batch: Batch, targets: Totals, step: tf.Tensor) -> tuple[list[tf.Tensor], Totals]:
            return self._sum_slices(batch, targets, step, variables)

        def on_replica(*arguments: Any) -> tuple[list[tf.Tensor], Totals]:
            # Compiled here and not around the step: replicas cannot meet inside of a compiled function.
            return (tf.function(sum_slices, jit_compile=True) if self.jit_compile else sum_slices)(*arguments)

        gradients, totals = _reduced(self.strategy, self.strategy.run(on_replica, (batch, targets, step)))
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(totals["loss"])
        if self.clip_norm is not None:
            scale = self.clip_norm / tf.maximum(norm, self.clip_norm)
            gradients = [gradient * scale for gradient in gradients]
        rate = tf.convert_to_tensor(self.optimizer.learning_rate)
        tf.cond(finite, lambda: self._update(gradients, variables), lambda: tf.constant(False))
        numbers = {
            **targets,
            **totals,
            "gradient_norm": norm,
            "learning_rate": rate,
            "skipped": tf.cast(~finite, tf.float32),
        }
        self.names = tuple(numbers)
        return tf.stack([tf.cast(number, tf.float32) for number in numbers.values()])

    def _update(self, gradients: list[tf.Tensor], variables: list[keras.Variable]) -> tf.Tensor:
        # Outside strategy.run and scope(): the gradients are reduced already, the optimizer must not do it again.
        self.optimizer.apply(gradients, variables)
        return tf.constant(True)

    def _count(self, batch: Batch) -> Totals:
        return {f"{head.name}/targets": head.targets(batch) for head in self.heads}

    def _sum_slices(
        self, batch: Batch, targets: Totals, step: tf.Tensor, variables: list[keras.Variable]
    ) -> tuple[list[tf.Tensor], Totals]:
        """Sums of gradients and totals over the slices of one replica's rows."""
        seed = tf.random.experimental.stateless_fold_in(tf.constant([self.seed, 0], tf.int32), step)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(replica, tf.int32))
        if self.accumulation == 1:
            return self._differentiate(batch, targets, tf.random.experimental.stateless_fold_in(seed, 0), variables)
        slices = {name: _split(rows, self.accumulation) for name, rows in batch.items()}

        def add_slice(index: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            rows = {name: tf.gather(parts, index) for name, parts in slices.items()}
            slice_seed = tf.random.experimental.stateless_fold_in(seed, index)
            more = self._differentiate(rows, targets, slice_seed, variables)
            return index + 1, tf.nest.map_structure(tf.add, sums, more)

        first = self._differentiate(
            {name: parts[0] for name, parts in slices.items()},
            targets,
            tf.random.experimental.stateless_fold_in(seed, 0),
            variables,
        )
        _, sums = tf.while_loop(
            lambda index, _: index < self.accumulation, add_slice, (tf.constant(1), first), parallel_iterations=1
        )
        return sums

    def _differentiate(
        self, batch: Batch, targets: Totals, seed: tf.Tensor, variables: list[keras.Variable]
    ) -> tuple[list[tf.Tensor], Totals]:
        # Plain TensorFlow variables: zeros for an unconnected one (a pooler that no head reads) fail on Keras's own.
        sources = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:  # what is frozen has no backward pass
            tape.watch(sources)
            outputs = self.model(model_inputs(batch), training=True, dropout_seed=seed)
            totals = sum_heads(self.heads, outputs, batch, training=True)
            loss = mean_loss(self.heads, totals, targets)
        gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # A gathered table has a sparse gradient; one dense form makes sums, norm and clipping plain.
        return [tf.convert_to_tensor(gradient) for gradient in gradients], {
            **totals,
            "loss": loss,
            **count_tokens(batch),
        }


class EvaluationStep:
    """Sums each head's losses and right answers over a global batch, without dropout, as one graph."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        heads: Sequence[Head],
        on_trace: Callable[[], None] = lambda: None,
    ) -> None:
        self.strategy = strategy
        self.model = model
        self.heads = tuple(heads)
        self.on_trace = on_trace
        self.names: tuple[str, ...] = ()
        self.graph = BatchFunction(self._run)

    def __call__(self, batch: Batch) -> tf.Tensor:
        """[K] float32, the sums named by `names`, over a global (distributed) batch."""
        return self.graph(batch)

    def _run(self, batch: Batch) -> tf.Tensor:
        self.on_trace()
        totals = _reduced(self.strategy, self.strategy.run(self._sum, (batch,)))
        self.names = tuple(totals)
        return tf.stack([tf.cast(number, tf.float32) for number in totals.values()])

    def _sum(self, batch: Batch) -> Totals:
        outputs = self.model(model_inputs(batch), training=False)
        targets = {f"{head.name}/targets": head.targets(batch) for head in self.heads}
        return {**targets, **sum_heads(self.heads, outputs, batch)}


def should_compile(setting: Literal["auto"] | bool, strategy: tf.distribute.Strategy) -> bool:
    """Whether XLA compiles the step: as `train.jit_compile` says, or on GPUs ("auto"); a TPU compiles all by itself."""
    kinds = {tf.DeviceSpec.from_string(name).device_type for name in strategy.extended.worker_devices}
    return "TPU" not in kinds and ("GPU" in kinds if setting == "auto" else setting)


def model_inputs(batch: Mapping[str, tf.Tensor]) -> Batch:
    """What the model may see of a batch: all but the answers."""
    return {name: rows for name, rows in batch.items() if not name.endswith(("labels", "weights"))}


def sum_heads(heads: Sequence[Head], outputs: Totals, batch: Batch, training: bool = False) -> Totals:
    """Every head's totals (float32 scalars), named `<head>/<total>`; in training those that the head is trained by."""
    totals_of = {head.name: (training and head.training_totals) or head.totals for head in heads}
    return {f"{head}/{name}": x for head, totals in totals_of.items() for name, x in totals(outputs, batch).items()}


def mean_loss(heads: Sequence[Head], totals: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Weighted sum of the heads' mean losses; a head without targets in the batch adds 0."""
    return tf.add_n(
        [
            head.weight * tf.math.divide_no_nan(totals[f"{head.name}/loss"], targets[f"{head.name}/targets"])
            for head in heads
        ]
    )


def count_tokens(batch: Batch) -> Totals:
    """Real tokens and slots of a batch's texts, float32; both 0 for batches without any `sequence_ids`."""
    texts = [ids for name, ids in batch.items() if name.endswith("sequence_ids")]
    tokens = [tf.math.count_nonzero(ids, dtype=tf.float32) for ids in texts]
    slots = [tf.cast(tf.size(ids), tf.float32) for ids in texts]
    return {"tokens": sum(tokens, tf.constant(0.0)), "slots": sum(slots, tf.constant(0.0))}


def _split(rows: tf.Tensor, count: int) -> tf.Tensor:
    """[R, ...] -> [count, R / count, ...]; what is known of the shape stays known. Dimensions may be 0."""
    parts = tf.reshape(rows, tf.concat([[count, tf.shape(rows)[0] // count], tf.shape(rows)[1:]], axis=0))
    return tf.ensure_shape(parts, [count, rows.shape[0] and rows.shape[0] // count, *rows.shape[1:]])


def _reduced(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """Sum over the replicas; with one replica nothing is copied, and workers exchange all values in one message."""
    if strategy.num_replicas_in_sync == 1:
        return values
    if num_workers(strategy) == 1:
        return tf.nest.map_structure(lambda value: strategy.reduce("SUM", value, axis=None), values)
    pairs = [(value, value) for value in tf.nest.flatten(values)]  # each to where it is, or they are not packed
    sums = [strategy.experimental_local_results(one)[0] for one in strategy.extended.batch_reduce_to("SUM", pairs)]
    return tf.nest.pack_sequence_as(values, sums)
