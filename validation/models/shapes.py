"""How large a Llama is."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama, named as in `LlamaConfig`, shortened.

    Attributes:
        layers: decoder layers.
        hidden: width of the residual stream.
        intermediate: neurons of one MLP.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        vocab: rows of the embedding.
        is_tied: the unembedding is the embedding.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    is_tied: bool

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Of a `LlamaConfig`."""
        head_dim = getattr(config, "head_dim", None)
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=head_dim or config.hidden_size // config.num_attention_heads,
            vocab=config.vocab_size,
            is_tied=config.tie_word_embeddings,
        )

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding; as many again are those of an untied unembedding."""
        return self.vocab * self.hidden
