"""A text encoder in a folder, as a user may have it: small enough to be made in a test."""

import json
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oak", "table", "##s")
SIZES = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 64}


def write_small_encoder(folder: Path, seed: int = 0, **sizes: int) -> Path:
    """Leave a BERT of a few layers and words, with random weights, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    torch.manual_seed(seed)
    BertModel(BertConfig(**({"vocab_size": len(WORDS)} | SIZES | sizes))).save_pretrained(folder)
    return folder
