"""Texts as 50 x 768 numbers: the numbers, the windows of long texts, and a cache that never gives wrong ones."""

import os
import shutil
import signal
import subprocess
import sys
import time

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from repository import ROOT
from safetensors.torch import load_file, save_file
from small_encoder import write_small_encoder
from transformers import AutoModel, AutoTokenizer

from marketplace.data_folder import UserError
from models import text_encoder
from models.text_encoder import ENCODER_SHA256, TextEncoder, cached_embeddings

TEXTS = (
    "Oak bookcase. Five shelves, a few marks on the top.",
    "",
    "🪑🔥😀",
    "Bicycle",
    "Garden shears and a wheelbarrow. " * 1000,
)
TOLERANCE = 0.08  # bfloat16 rounds differently in batches of different length; numbers go up to 12


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder()


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    return write_small_encoder(tmp_path_factory.mktemp("small-bert"))


def directly(encoder: TextEncoder, texts) -> np.ndarray:
    """The same by plain transformers: every text padded to 50, float32."""
    tokenizer = AutoTokenizer.from_pretrained(encoder.folder, local_files_only=True)
    model = AutoModel.from_pretrained(encoder.folder, local_files_only=True, dtype=torch.float32).eval()
    inputs = tokenizer(list(texts), padding="max_length", truncation=True, max_length=50, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    tokens = torch.cat((states[-2], states[-1]), -1) if states[-1].shape[-1] == 384 else states[-1]
    tokens = 0.5 * tokens / tokens.square().mean(-1, keepdim=True).sqrt()
    return (tokens * inputs["attention_mask"][:, :, None]).numpy()


def test_embeddings_equal_a_direct_call_of_transformers(encoder):
    ours, theirs = encoder.encode(TEXTS), directly(encoder, TEXTS)
    assert ours.shape == (len(TEXTS), 50, 768) and ours.dtype == np.float16
    tolerance = TOLERANCE if encoder.dtype == torch.bfloat16 else 0.01
    assert np.abs(ours - theirs).mean() < tolerance / 10
    assert np.abs(ours - theirs).max() < 4 * tolerance


@pytest.mark.parametrize("sizes", [None, {}, {"hidden_size": 384}], ids=["MiniLM", "768 wide", "384 wide"])
def test_every_token_of_every_encoder_has_the_same_root_mean_square(sizes, encoder, tmp_path):
    other = encoder if sizes is None else TextEncoder(str(write_small_encoder(tmp_path, **sizes)))
    embeddings = other.encode(TEXTS).astype(float)
    lengths = [len(ids) for ids in other.token_ids(TEXTS)]
    root_mean_squares = np.sqrt((embeddings**2).mean(axis=2))
    for length, of_text in zip(lengths, root_mean_squares, strict=True):
        assert np.abs(of_text[:length] / 0.5 - 1).max() < 0.01
    padded = np.arange(50) >= np.array(lengths)[:, None]
    assert padded.any() and not embeddings[padded].any()


def test_positions_behind_the_text_are_zero_and_only_those(encoder):
    tokens = (encoder.encode(TEXTS) != 0).any(axis=2).sum(axis=1)
    assert tokens.tolist() == [len(ids) for ids in encoder.token_ids(TEXTS)]
    assert tokens[1] == 2 and tokens[4] == 50  # [CLS] and [SEP] of nothing; 5,000 words cut to 50 tokens


def test_odd_texts_give_finite_numbers(encoder):
    assert np.isfinite(encoder.encode([*TEXTS, "\ud800 half an emoji", "\x00\r\n", "長い椅子"])).all()
    assert encoder.encode([]).shape == (0, 50, 768)


def test_windows_of_a_long_text_begin_with_its_name_and_lose_no_word(encoder):
    rest = " ".join(f"shelf{number} tabletop" for number in range(40))
    windows = encoder.windows("Oak bookcase", rest, maximum=20)
    assert len(windows) > 2 and all(window.startswith("Oak bookcase. ") for window in windows)
    assert " ".join(window.removeprefix("Oak bookcase. ") for window in windows) == rest
    tokens = [len(encoder.tokenizer(window)["input_ids"]) for window in windows]
    assert max(tokens) <= 50 and min(tokens[:-1]) > 40
    assert encoder.windows("Oak bookcase", rest, maximum=2) == windows[:2]
    assert encoder.windows(f"Oak bookcase. {rest}", maximum=20) == windows  # a free text: its first sentence


def test_every_window_begins_with_the_whole_name_even_if_that_holds_a_full_stop(encoder):
    windows = encoder.windows("Approx. 5 m HDMI cable", "Hardly used, in its box. " * 20)
    assert len(windows) > 2 and all(window.startswith("Approx. 5 m HDMI cable. ") for window in windows)


def test_windows_of_short_and_of_odd_texts(encoder):
    assert encoder.windows("Oak bookcase. Five shelves.") == ["Oak bookcase. Five shelves."]
    assert encoder.windows("") == [""] and encoder.windows("Bicycle") == ["Bicycle"]
    assert len(encoder.windows("bicycle " * 120)) == 3  # no first sentence: cut as it is
    assert encoder.windows("Bicycle", "") == ["Bicycle"]
    long_name = encoder.windows("lamp " * 60, "brass " * 60)
    assert all(len(encoder.tokenizer(window)["input_ids"]) <= 50 for window in long_name)
    assert np.isfinite(encoder.encode(encoder.windows("half \ud800 an emoji. 🪑"))).all()


def test_weights_are_those_that_were_checked(encoder, monkeypatch):
    assert encoder.weights_hash == ENCODER_SHA256
    monkeypatch.setattr(text_encoder, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(UserError, match="force-reinstall"):
        TextEncoder()


def test_each_distinct_text_is_embedded_once(encoder, tmp_path):
    texts = ["lamp", "sofa", "lamp", "sofa", "desk"]
    embeddings = cached_embeddings(tmp_path, texts, encoder)
    assert embeddings.shape == (5, 50, 768) == embeddings[:].shape and len(embeddings) == 5
    assert isinstance(embeddings.vectors, np.memmap) and len(embeddings.vectors) == 3
    assert (embeddings[0] == embeddings[2]).all() and not (embeddings[0] == embeddings[1]).all()
    for position, text in enumerate(texts):
        assert np.abs(embeddings[position].astype(float) - encoder.encode([text])[0]).max() < 4 * TOLERANCE
    assert embeddings[np.array([4, 0])].shape == (2, 50, 768)
    assert cached_embeddings(tmp_path, [], encoder).shape == (0, 50, 768)


def test_what_is_in_the_cache_is_not_computed_again(encoder, tmp_path):
    before = cached_embeddings(tmp_path, ["lamp", "sofa"], encoder)[:]
    unloaded = TextEncoder()
    again = cached_embeddings(tmp_path, ["sofa", "lamp"], unloaded)
    assert "model" not in vars(unloaded) and "tokenizer" not in vars(unloaded)
    assert (again[:] == before[::-1]).all()


def test_a_changed_text_is_embedded_anew(encoder, tmp_path):
    cached_embeddings(tmp_path, ["lamp", "sofa"], encoder)
    changed = cached_embeddings(tmp_path, ["lamp, brass", "sofa"], encoder)
    assert len(changed.vectors) == 3
    assert np.abs(changed[0].astype(float) - encoder.encode(["lamp, brass"])[0]).max() < 4 * TOLERANCE


def test_other_weights_have_another_cache(encoder, small_folder, tmp_path):
    cached_embeddings(tmp_path, ["oak tables"], encoder)
    other = TextEncoder(str(small_folder))
    embeddings = cached_embeddings(tmp_path, ["oak tables"], other)
    assert len(list(tmp_path.iterdir())) == 2 and other.weights_hash[:12] in other.key
    assert np.abs(embeddings[:] - directly(other, ["oak tables"])).max() < TOLERANCE


@pytest.mark.parametrize("torn", ["vectors.float16", "texts.sha256"])
def test_half_a_row_at_the_end_of_a_file_is_cut_off(encoder, tmp_path, torn):
    whole = cached_embeddings(tmp_path, ["lamp", "sofa", "desk"], encoder)[:]
    with open(tmp_path / encoder.key / torn, "r+b") as file:
        file.truncate(os.fstat(file.fileno()).st_size - 7)
    again = cached_embeddings(tmp_path, ["lamp", "sofa", "desk"], encoder)
    assert len(again.vectors) == 3
    assert np.abs(again[:].astype(float) - whole).max() < 4 * TOLERANCE


def test_a_killed_run_is_gone_on_with(encoder, tmp_path):
    texts = [f"Box number {number} of {number % 17} tiles" for number in range(2000)]
    code = (
        "from pathlib import Path; from models.text_encoder import TextEncoder, cached_embeddings as c; "
        f"c(Path({str(tmp_path)!r}), {texts!r}, TextEncoder())"
    )
    hashes = tmp_path / encoder.key / "texts.sha256"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (hashes.exists() and hashes.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = hashes.read_bytes()
    done = len(kept) // 32
    assert 0 < done < len(texts)
    embeddings = cached_embeddings(tmp_path, texts[:done] + texts[-200:], TextEncoder())
    assert hashes.read_bytes().startswith(kept)
    for position in (0, done, len(embeddings) - 1):
        text = (texts[:done] + texts[-200:])[position]
        assert np.abs(embeddings[position].astype(float) - encoder.encode([text])[0]).max() < 4 * TOLERANCE


def test_nothing_is_printed_into_a_pipe(encoder, tmp_path, capfd):
    fresh = TextEncoder()
    cached_embeddings(tmp_path, list(TEXTS), fresh)
    assert capfd.readouterr() == ("", "")


def test_an_encoder_that_cannot_be_had_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        TextEncoder(str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="cannot be downloaded"):
        TextEncoder("bert-base-uncased")


def without(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def torn(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def with_weights(change):
    def write(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return write


def with_content(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def of_sizes(**sizes: int):
    return lambda folder: write_small_encoder(folder, **sizes)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (without("vocab.txt", "tokenizer_config.json"), "its tokenizer is missing or knows no word"),
        (without("vocab.txt"), "its tokenizer is missing or knows no word"),
        (with_content("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nбуд\n"), "its tokenizer is missing or knows no word"),
        (with_content("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\noak\ntable\n" + "\n".join("abcdef")), "13 tokens"),
        (with_content("config.json", "{no json"), "not a valid JSON file"),
        (without("config.json"), "config.json"),
        (torn, "incomplete"),
        (with_content("model.safetensors", "\x08\0\0\0\0\0\0\0 torn"), ""),
        (
            with_weights(lambda weights: weights.pop("encoder.layer.1.output.dense.weight")),
            "lacks encoder.layer.1.output",
        ),
        (with_weights(lambda weights: weights["embeddings.LayerNorm.bias"].fill_(torch.nan)), "not finite"),
        (of_sizes(hidden_size=80, num_attention_heads=2), "80 wide"),
        (
            with_weights(lambda weights: weights.update({"embeddings.LayerNorm.bias": torch.zeros(3)})),
            "lacks embeddings.LayerNorm.bias",
        ),
        (with_weights(lambda weights: weights.pop("pooler.dense.weight")), None),  # nothing here uses it
        (of_sizes(hidden_size=384), None),
        (of_sizes(hidden_size=64, num_attention_heads=4), "64 wide and has 2 layers"),
        (of_sizes(max_position_embeddings=32), "50"),
        (of_sizes(vocab_size=400), "8 tokens and its model 400"),
    ],
)
def test_an_encoder_is_checked_whole_when_it_is_opened(damage, cause, small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "encoder")
    damage(tmp_path / "encoder")
    if cause is None:
        assert TextEncoder(str(tmp_path / "encoder")).encode(["oak"]).any(axis=2).sum() == 3
    else:
        with pytest.raises(
            UserError, match=rf"the text encoder in .* cannot be loaded \([^\n]*{cause}[^\n]*\): [^\n]*\.$"
        ):
            TextEncoder(str(tmp_path / "encoder"))


def test_an_encoder_is_known_by_its_weights_and_its_tokenizer(small_folder, tmp_path):
    known = TextEncoder(str(small_folder)).weights_hash
    folder = tmp_path / small_folder.name
    shutil.copytree(small_folder, folder)
    assert TextEncoder(str(folder), weights_hash=known).key == TextEncoder(str(small_folder)).key
    swapped = (folder / "vocab.txt").read_text().replace("oak\ntable", "table\noak")
    for change in (
        with_content("vocab.txt", swapped),
        with_weights(lambda weights: weights["pooler.dense.bias"].add_(1)),
    ):
        shutil.copytree(small_folder, folder, dirs_exist_ok=True)
        change(folder)
        assert TextEncoder(str(folder)).key != TextEncoder(str(small_folder)).key
        with pytest.raises(UserError, match=r"not those that the network was trained with: [^\n]*\.$"):
            TextEncoder(str(folder), weights_hash=known)
    with pytest.raises(UserError, match="not those that the network was trained with"):
        TextEncoder(weights_hash=known)
