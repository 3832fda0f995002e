"""Texts as 50 x 768 numbers: the numbers, the windows of long texts, and a cache that never gives wrong ones."""

import shutil

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from small_encoder import write_small_encoder
from transformers import AutoModel, AutoTokenizer

from marketplace.data_folder import UserError
from models import text_encoder
from models.text_encoder import (
    ENCODER_SHA256,
    TextEncoder,
    Texts,
    cached_embeddings,
    load_texts,
    mean_embeddings,
    product_embeddings,
)

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
    assert np.isfinite(encoder.encode([*TEXTS, "\x00\r\n", "長い椅子"])).all()
    assert encoder.encode([]).shape == (0, 50, 768)


def test_windows_of_a_long_text_begin_with_its_name_and_lose_no_word(encoder):
    rest = " ".join(f"shelf{number} tabletop" for number in range(40))
    windows = encoder.windows("Oak bookcase", rest, maximum=20)
    assert len(windows) > 2 and all(window.startswith("Oak bookcase. ") for window in windows)
    assert " ".join(window.removeprefix("Oak bookcase. ") for window in windows) == rest
    tokens = [len(encoder.tokenizer(window)["input_ids"]) for window in windows]
    assert max(tokens) <= 50 and min(tokens[:-1]) > 40
    assert encoder.windows("Oak bookcase", rest, maximum=2) == windows[:2]


def test_every_window_begins_with_the_whole_name_even_if_that_holds_a_full_stop(encoder):
    windows = encoder.windows("Approx. 5 m HDMI cable", "Hardly used, in its box. " * 20)
    assert len(windows) > 2 and all(window.startswith("Approx. 5 m HDMI cable. ") for window in windows)


def test_windows_of_short_and_of_odd_texts(encoder):
    assert encoder.windows("Oak bookcase", "Five shelves.") == ["Oak bookcase. Five shelves."]
    assert encoder.windows("") == [""] and encoder.windows("Bicycle", "") == ["Bicycle"]
    assert len(encoder.windows("bicycle " * 120)) == 3  # no description: the name is cut
    long_name = encoder.windows("lamp " * 60, "brass " * 60)
    assert all(len(encoder.tokenizer(window)["input_ids"]) <= 50 for window in long_name)


def test_weights_are_those_that_were_checked(encoder, monkeypatch):
    assert encoder.weights_hash == ENCODER_SHA256
    monkeypatch.setattr(text_encoder, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(UserError, match="force-reinstall"):
        TextEncoder()


def test_a_file_of_embeddings_is_written_once_and_mapped(encoder, tmp_path, capfd):
    texts = ["lamp", "sofa", "lamp", "an oak desk"]
    embeddings = cached_embeddings(tmp_path, texts, encoder)
    assert isinstance(embeddings, np.memmap) and embeddings.shape == (4, 50, 768) and embeddings.dtype == np.float16
    for position, text in enumerate(texts):
        assert np.abs(embeddings[position].astype(float) - encoder.encode([text])[0]).max() < 4 * TOLERANCE
    fresh = TextEncoder()
    assert (cached_embeddings(tmp_path, texts, fresh) == embeddings).all()
    assert "model" not in vars(fresh) and "tokenizer" not in vars(fresh)
    assert capfd.readouterr() == ("", "")


def test_other_texts_replace_the_file_and_other_weights_have_their_own(encoder, small_folder, tmp_path):
    cached_embeddings(tmp_path, ["lamp", "sofa"], encoder)
    changed = cached_embeddings(tmp_path, ["lamp, brass", "sofa"], encoder)
    assert np.abs(changed[0].astype(float) - encoder.encode(["lamp, brass"])[0]).max() < 4 * TOLERANCE
    assert len(list(tmp_path.iterdir())) == 1
    other = TextEncoder(str(small_folder))
    embeddings = cached_embeddings(tmp_path, ["oak tables"], other)
    assert len(list(tmp_path.iterdir())) == 2
    assert np.abs(embeddings - directly(other, ["oak tables"])).max() < TOLERANCE


def test_a_run_that_stops_leaves_no_file(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "embed", lambda token_ids: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cached_embeddings(tmp_path, ["lamp"], encoder)
    assert not any(tmp_path.iterdir())


def test_every_listing_has_windows_and_their_mean(encoder, tmp_path):
    names, descriptions = ["Approx. 5 m HDMI cable", "Lamp"], ["Hardly used, in its box. " * 20, "Brass."]
    texts = load_texts(tmp_path, pd.DataFrame({"product_name": names, "product_description": descriptions}))
    windows = [encoder.windows(*pair) for pair in zip(names, descriptions, strict=True)]
    assert texts.product_rows.tolist() == [0] * len(windows[0]) + [1] and len(windows[0]) > 1
    expected = encoder.encode([*windows[0], *windows[1]])
    assert np.abs(texts.embeddings.astype(float) - expected).max() < 0.4  # bfloat16


def test_the_mean_is_over_the_tokens_without_padding():
    embeddings = np.zeros((3, 50, 768), np.float16)
    embeddings[0, :2] = [[1.0], [3.0]]
    embeddings[1, :1] = 4
    assert mean_embeddings(embeddings, block=2)[:, 0].tolist() == [2, 4, 0]
    assert product_embeddings(Texts(embeddings, np.array([0, 0, 1])), 2)[:, 0].tolist() == [3, 0]


def test_an_encoder_that_cannot_be_downloaded_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="cannot be downloaded"):
        TextEncoder("bert-base-uncased")


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def torn(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_json(folder):
    (folder / "config.json").write_text("{no json")


@pytest.mark.parametrize("damage", [without_weights, torn, without_json])
def test_a_damaged_encoder_is_one_sentence(damage, small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "encoder")
    damage(tmp_path / "encoder")
    with pytest.raises(UserError, match=r"the text encoder in .* cannot be loaded \([^\n]*\): [^\n]*\.$"):
        TextEncoder(str(tmp_path / "encoder")).encode(["oak"])


def test_an_encoder_of_another_width_is_one_sentence(tmp_path):
    write_small_encoder(tmp_path, hidden_size=80, num_attention_heads=2)
    with pytest.raises(UserError, match=r"is 80 wide, which does not divide 768: [^\n]*\.$"):
        TextEncoder(str(tmp_path)).encode(["oak"])


def test_an_encoder_is_recognised_by_its_weights_and_its_tokenizer(small_folder, tmp_path):
    earlier = TextEncoder(str(small_folder)).weights_hash
    folder = tmp_path / small_folder.name
    shutil.copytree(small_folder, folder)
    assert TextEncoder(str(folder), weights_hash=earlier).key == TextEncoder(str(small_folder)).key
    words = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(words.replace("oak\ntable", "table\noak"))
    assert TextEncoder(str(folder)).key != TextEncoder(str(small_folder)).key
    with pytest.raises(UserError, match=r"not those that the network was trained with: [^\n]*\.$"):
        TextEncoder(str(folder), weights_hash=earlier)
