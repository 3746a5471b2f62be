"""What can a run be told? The typed, frozen sections of a configuration; no TensorFlow here."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION: Literal[1] = 1  # of run.yaml; raised when an old file can no longer be read as it is


class Section(BaseModel):
    """A frozen group of settings; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tokenizer(Section):
    """How text becomes token ids."""

    kind: Literal["wordpiece", "sentencepiece", "byte"] = "wordpiece"
    vocab_size: int = Field(8192, ge=300)  # 300: the bytes and the control symbols fit; "byte" always has 261
    lowercase: bool = True  # WordPiece only: NFKC case folding and accents off, as in BERT uncased


class LabelHead(Section):
    """One thing that is said of a text; a row whose column is empty teaches the other heads only."""

    column: str
    labels: tuple[str, ...]  # in the order of the output probabilities
    weight: float = Field(1.0, gt=0)  # of its mean loss in the sum over heads


class ChatRole(Section):
    """What stands before and behind a message of one role."""

    prefix: str
    suffix: str = "\n"


class ChatRoles(Section):
    """Who speaks in a conversation."""

    system: ChatRole = ChatRole(prefix="System:\n")
    user: ChatRole = ChatRole(prefix="User:\n")
    assistant: ChatRole = ChatRole(prefix="Assistant:\n")


class Chat(Section):
    """How a conversation is written as one text, and where a reply ends in it."""

    roles: ChatRoles = ChatRoles()
    stop: tuple[str, ...] = ("\n",)  # one of them has to stand in the assistant's suffix, and none in a reply

    @model_validator(mode="after")
    def _replies_end(self) -> Self:
        suffix = self.roles.assistant.suffix
        if "" in self.stop or not any(stop in suffix for stop in self.stop):
            raise ValueError(f"stop={list(self.stop)}: a reply ends with {suffix!r}, so one of them has to stand there")
        return self


class Data(Section):
    """Where documents, sentences, texts and labels stand in the input."""

    document_boundary: Literal["doc_marker", "blank_line", "heading", "file"] = "doc_marker"
    text_field: str = "text"  # of .jsonl corpora
    held_out_share: float = Field(0.05, ge=0, lt=1)  # of the documents, chosen by a hash of their text
    shard_megabytes: int = Field(64, ge=1)
    text_column: str = "text"  # of labelled .tsv files
    label_column: str = "label"
    labels: tuple[str, ...] = ()  # in the order of the output probabilities
    heads: dict[str, LabelHead] = {}  # by name, for several at once; empty: one, "label", of label_column and labels
    out_of_scope_label: str | None = None  # of texts that belong to no label: they teach nothing, but judge the model
    second_text_column: str | None = None  # of text pairs: question and question, or question and reply
    validation_share: float = Field(0.1, ge=0, lt=1)  # of labelled rows, chosen by a hash of their text
    test_share: float = Field(0.1, ge=0, lt=1)  # likewise; not taken where a test file is given
    chat: Chat = Chat()  # of dialogues

    def label_heads(self) -> dict[str, LabelHead]:
        """The heads of a classifier by name; without `heads` there is one, named "label"."""
        return self.heads or {"label": LabelHead(column=self.label_column, labels=self.labels)}


class Backbone(Section):
    """The transformer; the defaults are BERT's."""

    architecture: Literal["bert", "gpt"] = "bert"
    num_layers: int = Field(4, ge=1)
    hidden_dim: int = Field(256, ge=8)
    num_heads: int = Field(4, ge=1)
    num_key_value_heads: int | None = None  # None: as many as num_heads
    intermediate_dim: int | None = None  # None: 4 x hidden_dim
    max_length: int = Field(512, ge=8)  # tokens; rows of the position table
    num_token_types: int = Field(2, ge=0)  # 0: no token-type embedding
    positions: Literal["learned", "sinusoidal", "rotary"] = "learned"
    norm_order: Literal["post", "pre"] = "post"
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    norm_epsilon: float = 1e-12
    activation: Literal["gelu", "gelu_tanh", "swiglu"] = "gelu"
    use_bias: bool = True
    dropout: float = Field(0.1, ge=0, lt=1)  # on embeddings and residual branches
    attention_dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_dim % self.num_heads:
            raise ValueError(f"hidden_dim={self.hidden_dim} is not a multiple of num_heads={self.num_heads}")
        key_value_heads = self.num_key_value_heads or self.num_heads
        if self.num_heads % key_value_heads:
            raise ValueError(f"num_heads={self.num_heads} is not a multiple of num_key_value_heads={key_value_heads}")
        return self


class Objective(Section):
    """What the model learns to predict, and how much each head counts."""

    task: Literal[
        "bert_pretraining",
        "gpt_pretraining",
        "text_classification",  # of texts, or of text pairs where data.second_text_column is given
        "text_matching",  # two texts that belong together have near embeddings: a dual encoder
        "reranking",  # a cross-encoder that picks the right one of several candidates
        "dialogue",  # the replies of dialogues, word by word: gpt_pretraining goes on with them
        "recommendation",  # the next item of a user's history
    ] = "bert_pretraining"
    mask_share: float = Field(0.15, gt=0, lt=1)  # of the real tokens of a row (Devlin et al. 2019)
    whole_word: bool = False  # mask all pieces of a word together
    mask_spans: bool = False  # mask several words in a row together (Joshi et al. 2020); in Chinese, characters
    masked_lm_weight: float = 1.0
    next_sentence_weight: float = 1.0  # 0: no sentence pairs are made
    pairs: Literal["next_sentence", "sentence_order"] = "next_sentence"  # b is another text, or a and b are swapped
    word_matches: bool = False  # next sentences are told by words of one part that the other has too, beside [CLS]
    pooling: Literal["first", "mean"] = (
        "first"  # what a classifier reads: BERT's pooled [CLS], or the mean of all tokens
    )
    classifier_dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # share of a label's weight that all classes divide, in training
    consistency: float = Field(0.0, ge=0)  # of a classifier: weight of R-Drop (Liang et al. 2021); each row goes twice


class MixedTask(Section):
    """Labelled texts, or pairs of them (a premise and a hypothesis), that a pretraining learns beside its corpus."""

    text_column: str = "text"
    second_text_column: str | None = None  # of text pairs
    label_column: str = "label"
    labels: tuple[str, ...] = Field(min_length=2)  # in the order of the output probabilities
    share: float = Field(gt=0, lt=1)  # of the steps; the rest is the corpus's and the other tasks'
    weight: float = Field(1.0, gt=0)  # of its mean loss in a step of its own


class Matching(Section):
    """Dual encoder and re-ranker: how queries find their passages."""

    query_length: int = Field(64, ge=4)  # tokens
    passage_length: int = Field(128, ge=4)  # tokens
    temperature: float = Field(0.05, gt=0)  # of the cosine in the in-batch softmax
    symmetric: bool = True  # passages pick their query too, with half of the loss
    hard_negatives: int = Field(1, ge=0)  # mined passages beside the right one, for each query
    candidates: int = Field(20, ge=2)  # that the re-ranker looks at


class Decisions(Section):
    """What is promised with an answer; fitted on the validation part after training."""

    coverage: float = Field(0.9, gt=0, lt=1)  # share of texts whose true label is in the conformal set
    precision: float = Field(0.9, gt=0, lt=1)  # of the answers that are given; the rest abstains
    rejected_share: float = Field(0.05, gt=0, lt=1)  # of the texts in scope, at most, where out-of-scope ones are told


class Assistant(Section):
    """How a served assistant finds a reply, and what counts as the right one."""

    context_turns: int = Field(2, ge=0)  # earlier turns that a query holds beside the question
    past_questions: int = Field(20, ge=0)  # of each reply, by which the index finds it too
    fusion: Literal["dense", "weighted", "reciprocal_rank"] = "weighted"  # of cosine and BM25
    dense_share: float = Field(0.7, ge=0, le=1)  # of "weighted"
    same_language: bool = True  # replies and passages in the language of the question only: Chinese, or not
    right_when: Literal["same_reply", "same_intent"] = "same_reply"  # same_intent: a reply given to that intent before


class Grounding(Section):
    """How an assistant writes replies of its own from the retrieved ones."""

    replies: int = Field(3, ge=1)  # retrieved ones that the model reads
    max_new_tokens: int = Field(64, ge=1)  # room for what it writes
    cited_from: float = Field(0.5, gt=0, le=1)  # share of its runs of three tokens that a retrieved reply has too
    right_from: float = Field(0.8, gt=0, le=1)  # agreement (F1 of such runs) with a right reply that counts as right


DISLIKED, NEUTRAL, LIKED = 1, 2, 3  # levels of an event in a history; 0: no event


class Recommendation(Section):
    """History, candidates, negatives and lists of the recommender; `backbone` is the transformer over the history."""

    history_length: int = Field(50, ge=1)  # newest interactions of a user that the model sees
    text_length: int = Field(128, ge=8)  # tokens of an item's text
    num_negatives: int = Field(200, ge=1)  # for each target
    hard_share: float = Field(0.5, ge=0, le=1)  # of the negatives, drawn from the neighbours of the history's items
    positive_from: float = 4.0  # values (ratings, strengths of events) from here on count as liked
    negative_to: float = 2.0  # values up to here count as disliked
    event_values: dict[str, float] = {"view": 3.0, "click": 4.0, "share": 5.0}  # of events that carry no value
    test_share: float = Field(0.2, ge=0, lt=1)  # of each user's events, the latest
    validation_share: float = Field(0.2, ge=0, lt=1)  # of the events before them, the latest
    cold_item_share: float = Field(0.0, ge=0, lt=1)  # of the items, held out whole by `prepare`
    train_on_validation: bool = False  # for the last run, when all settings are chosen
    table_items: int = Field(2000, ge=1)  # the most frequent items, which get a row in the item-to-item tables
    table_strength: float = Field(300.0, gt=0)  # ridge of these tables (EASE)
    table_folds: int = Field(4, ge=2)  # of users: what a user's targets are scored with was fitted on other users
    recent_days: float = Field(14.0, gt=0)  # of the popularity that counts as recent
    prior_events: float = Field(5.0, gt=0)  # k of the popularity prior, which weighs k / (k + events of the user)
    cold_share: float = Field(0.2, ge=0, le=1)  # of the training rows, in which every candidate is seen as new
    candidates: int = Field(200, ge=1)  # that the first stage of a list hands to the ranker
    list_length: int = Field(10, ge=1)
    diversity: float = Field(0.1, ge=0, lt=1)  # weight of being unlike the rest of the list; 0: the ranker's order
    most_per_category: int = Field(10, ge=1)  # items of one category in a list


class Optimizer(Section):
    """The update rule, its schedule, and which layers learn how fast and from when on."""

    name: Literal["adamw", "sgd", "lion", "lamb", "muon", "adafactor"] = "adamw"
    peak_learning_rate: float = Field(1e-4, gt=0)
    warmup_share: float = Field(0.1, ge=0, le=1)  # of all steps, linear from 0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    final_share: float = Field(0.0, ge=0, le=1)  # of the peak, reached at the last step
    weight_decay: float = Field(0.01, ge=0)  # decoupled; never on norms and biases
    beta_1: float = 0.9  # of adamw, lion, lamb, and of muon where it is AdamW
    beta_2: float = 0.999  # likewise; Lion's paper has 0.99
    epsilon: float = 1e-6  # of adamw, lamb, and of muon where it is AdamW
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd and muon; Muon's source has 0.95
    clip_norm: float | None = Field(1.0, gt=0)  # of the global gradient; None: no clipping
    layer_decay: float = Field(1.0, gt=0, le=1)  # of the rate from each layer to the one below; 1: all learn alike
    frozen: tuple[str, ...] = ()  # parts of variables' paths that never learn, such as embedding/word_table or block_0
    unfreeze_share: float = Field(0.0, ge=0, le=1)  # of all steps: the lowest layer learns from then on; 0: at once


class Train(Section):
    """How long, in what pieces, and what is kept."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    global_batch: int = Field(32, ge=1)  # rows of one optimizer step, over all replicas and accumulations
    accumulation: int = Field(1, ge=1)  # slices of a replica's rows, computed one after another
    sequence_length: int = Field(128, ge=8)  # tokens a row
    pack: bool = False  # several pairs or dialogues in a training row that do not see each other (BERT, dialogue)
    rematerialize: bool = False  # compute each block again in the backward pass instead of keeping what is inside it
    jit_compile: Literal["auto"] | bool = "auto"  # of the training step, by XLA; auto: on GPUs
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    strategy: Literal["one_device", "mirrored", "multi_worker_mirrored", "tpu"] = "one_device"
    log_every: int = Field(10, ge=1)  # steps
    evaluate_every: int = Field(200, ge=1)  # steps
    evaluation_rows: int = Field(512, ge=1)  # at most, of the held-out part
    checkpoint_every: int = Field(200, ge=1)  # steps
    keep_newest: int = Field(2, ge=1)  # checkpoints, beside the best one

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of steps and epochs must be given")
        if self.global_batch % self.accumulation:
            raise ValueError(f"global_batch={self.global_batch} is not a multiple of accumulation={self.accumulation}")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """The optimizer steps of the whole run, from `steps` or `epochs`."""
        return self.steps or max(1, round((self.epochs or 1) * steps_per_epoch))


class Cluster(Section):
    """Where a run of several processes or a TPU computes: a run may go on with another cluster."""

    workers: tuple[str, ...] = ()  # host:port of each process, the chief first; TF_CONFIG, where set, goes before it
    tpu: str = "local"  # name or grpc:// address of the TPU; "local": of this machine, as on a TPU VM

    @model_validator(mode="after")
    def _have_ports(self) -> Self:
        for worker in self.workers:
            host, _, port = worker.rpartition(":")
            if not (host and port.isdigit()):
                raise ValueError(f"workers: {worker!r} is not host:port, for example trainer-0:2222")
        if len(set(self.workers)) < len(self.workers):
            raise ValueError("workers: an address stands there twice")
        return self


class Export(Section):
    """What the SavedModel accepts, and what a model has to pass before it becomes one."""

    sequence_length: int = Field(128, ge=8)  # tokens a text is cut to
    behaviour_languages: tuple[Literal["en", "zh"], ...] = ("en", "zh")  # of the behaviour tests
    min_behaviour: dict[str, float] = {}  # behaviour test -> least share of its cases; a test not named may fail


class Run(Section):
    """Everything that is computed; with the data and the seed it determines the result."""

    format_version: Literal[1] = FORMAT_VERSION
    seed: int = 1
    tokenizer: Tokenizer = Tokenizer()
    data: Data = Data()
    backbone: Backbone = Backbone()
    objective: Objective = Objective()
    matching: Matching = Matching()
    decisions: Decisions = Decisions()
    recommendation: Recommendation = Recommendation()
    assistant: Assistant = Assistant()
    grounding: Grounding = Grounding()
    mix: dict[str, MixedTask] = {}  # by name: what bert_pretraining learns beside masked words
    parts: dict[str, dict[str, Any]] = {}  # of an application with several models: what is other in each one's run
    optimizer: Optimizer = Optimizer()
    train: Train = Train(steps=1000)
    cluster: Cluster = Cluster()
    export: Export = Export()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.train.sequence_length > self.backbone.max_length:
            raise ValueError(
                f"train.sequence_length={self.train.sequence_length} exceeds "
                f"backbone.max_length={self.backbone.max_length}"
            )
        if self.export.sequence_length > self.backbone.max_length:
            raise ValueError(
                f"export.sequence_length={self.export.sequence_length} exceeds "
                f"backbone.max_length={self.backbone.max_length}"
            )
        return self

    @model_validator(mode="after")
    def _mix_fits(self) -> Self:
        if self.mix and self.objective.task != "bert_pretraining":
            raise ValueError(f"mix needs objective.task=bert_pretraining, the run says {self.objective.task}")
        if sum(task.share for task in self.mix.values()) >= 1:
            raise ValueError("the shares of mix leave no step for the corpus: their sum must be below 1")
        taken = {"masked_lm", "next_sentence", "sentence_order"} & set(self.mix)
        if taken:
            raise ValueError(f"mix.{min(taken)}: the corpus has a head of that name; take another")
        return self

    def in_float32(self) -> "Run":
        """The same run to compute with in full precision, whatever it was trained in."""
        return self.model_copy(update={"train": self.train.model_copy(update={"precision": "float32"})})
