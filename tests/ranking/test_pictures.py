"""ranking/pictures.py: what stands in the pictures of the ranking notebook."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ranking.pictures import plot_lists, plot_vector

PHOTO = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def words_in(figure):
    """All texts of a figure and of its parts."""
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def test_a_vector_is_drawn_as_its_blocks_with_sizes_weights_and_the_likeliest_categories():
    blocks = {"text_embedding": np.linspace(-0.1, 0.1, 20), "image_main_category": np.array([0.2, 0.9, 0.1, 0.4])}
    weights, names = {"text_embedding": 0.7, "image_main_category": 0.3}, {"image_main_category": list("ABCD")}
    figure = plot_vector(blocks, weights, names, PHOTO, "a sofa")
    words = words_in(figure)
    assert {"text_embedding: 20 numbers, weight 0.70", "image_main_category: 4 numbers, weight 0.30"} <= {*words}
    assert "a sofa" in words
    assert [word for word in words if word in names["image_main_category"]] == ["B", "D"]
    heights = [line[1, 1] for ax in figure.axes for lines in ax.collections for line in lines.get_segments()]
    assert np.allclose(heights, np.concatenate([*blocks.values()]))


def test_a_vector_without_a_photo_is_drawn_too():
    blocks = {"text_embedding": np.ones(4) / 2, "image_main_category": np.zeros(4)}
    weights, names = {"text_embedding": 0.7, "image_main_category": 0.3}, {"image_main_category": list("ABCD")}
    figure = plot_vector(blocks, weights, names, None, "a sofa")
    figure.canvas.draw()
    assert "no photo" in words_in(figure)


def test_lists_have_a_row_for_each_query_with_its_note_and_say_where_a_photo_is_missing():
    figure = plot_lists(
        [[PHOTO, PHOTO, None], [PHOTO, PHOTO]], [["Q1", "a", "b"], ["Q2", "c"]], ["NDCG 0.5", "NDCG 0.7"], "Lists"
    )
    words = words_in(figure)
    assert len(figure.subfigs) == 2
    assert {"Lists", "Q1", "a", "b", "Q2", "c", "NDCG 0.5", "NDCG 0.7"} <= {*words}
    assert words.count("no photo") == 1


def test_what_the_font_lacks_is_left_out_of_captions_and_dollars_are_no_mathematics():
    blocks, caption = {"text_embedding": np.ones(4) / 2}, "⭐ $5 to $6 👍"
    figures = [plot_vector(blocks, {"text_embedding": 1.0}, {}, PHOTO, caption)]
    figures += [plot_lists([[PHOTO]], [[caption]], ["NDCG 0.5"], "Lists")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures:
            figure.canvas.draw()
    titles = [ax.title for figure in figures for ax in figure.findobj(plt.Axes) if "$" in ax.get_title()]
    assert [title.get_text() for title in titles] == [" $5 to $6 "] * 2
    assert not any(title.get_parse_math() for title in titles)
