"""The repository as a whole: notebooks are whole runs, tables are made from results, files are small, no secrets."""

import json
import re
import subprocess
from collections import defaultdict

import pytest
from repository import ROOT

from evaluation.tables import PAGES, TABLE, with_tables

NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
MARKDOWN = [name for name in TRACKED if name.endswith(".md")]


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_four_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "image_classification",
        "neural_networks",
        "product_ranking",
        "tabular_linear_regression",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_one_whole_run(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "parameters" in cells[0]["metadata"]["tags"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any(name.startswith("image/") for output in outputs for name in output.get("data", {}))
    assert path.stat().st_size < 2_000_000
    assert max(len("".join(cell["source"]).splitlines()) for cell in cells) <= 25
    text = "".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs
    )
    assert not re.search(r"(/home/|/root/|/work/|/tmp/|/Users/|[A-Z]:\\\\)", text)
    assert "Warning" not in text


def test_no_made_file_and_no_secret_is_tracked():
    for name in TRACKED:
        assert not re.search(r"credentials\.yaml$|\.db$|\.pt$|\.pkl$|_table.*\.json$|\.partial$", name), name
        assert (ROOT / name).stat().st_size < (2_000_000 if name.endswith(".ipynb") else 500_000), name


def test_every_python_file_says_what_it_is():
    for name in TRACKED:
        if name.endswith(".py"):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not text.strip() or text.startswith(('"""', "#!")), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_results_files(page):
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run python -m evaluation.tables --publish"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_table_of_figures_is_typed_by_hand(page):
    by_hand = TABLE.sub("", page.read_text(encoding="utf-8"))
    assert not re.findall(r"^\|.*(?:\d\.\d|\d,\d{3}).*\|$", by_hand, re.MULTILINE)


def test_published_results_hold_no_id_and_no_text():
    paths = sorted((ROOT / "docs" / "results").rglob("*.json"))
    assert paths
    for path in paths:
        texts = re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))
        assert max(map(len, texts)) <= 120, path
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", " ".join(texts)), path


def headings(path):
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL).splitlines()
    names = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", name).replace(" ", "-") for name in names}


@pytest.mark.parametrize("name", MARKDOWN)
def test_every_link_leads_somewhere(name):
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 230


@pytest.mark.parametrize("name", MARKDOWN)
def test_a_page_has_no_gap_to_fill(name):
    assert "TODO" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MARKDOWN)
def test_a_page_names_only_targets_of_make_that_are_there(name):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)(?=[\s`])", text, re.MULTILINE):
        assert re.search(rf"^[a-z -]*\b{target}\b[a-z -]*:", makefile, re.MULTILINE), target


def named_options():
    """The options that pages give to each script or module: by its name, `x.py` or `package.module`."""
    found = defaultdict(set)
    command = (
        r"(?:python|torchrun[^\n`]*?) (?:-m ((?:benchmarks|evaluation)\.[a-z_]+)|([\w/]+\.py))((?:[^\n`]|\n +(?=\[))*)"
    )
    for name in MARKDOWN:
        text = (ROOT / name).read_text(encoding="utf-8")
        for module, script, rest in re.findall(command, text):
            found[module or script].update(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.split(" # ")[0]))
    return found


@pytest.mark.parametrize(("command", "options"), sorted(named_options().items()))
def test_pages_give_scripts_and_modules_only_options_that_they_have(command, options):
    path = ROOT / (command if command.endswith(".py") else f"{command.replace('.', '/')}.py")
    code = path.read_text(encoding="utf-8")
    shared = {"argument_parser(": "--data-dir", "add_save_option(": "--save", "BooleanOptionalAction": "--no-photos"}
    known = set(re.findall(r"\"(--[a-z][a-z-]*)\"", code)) | {shared[call] for call in shared if call in code}
    assert options <= known
