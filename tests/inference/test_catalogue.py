"""The catalogue: what is built in, and what is said of a bad one."""

from pathlib import Path

import pytest

from inference.catalogue import Catalogue, CatalogueError, HubSource

GOOD = """
models:
  - name: my/model
    task: generate
    context_length: 4096
    source: {kind: huggingface, id: org/name, revision: 0123abc}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "catalogue.yaml"
    path.write_text(text)
    return path


def test_the_built_in_catalogue_has_a_text_and_an_embedding_model():
    catalogue = Catalogue.load(None)

    assert {model.task for model in catalogue.models} == {"generate", "embed"}
    assert all(model.licence for model in catalogue.models)
    assert catalogue.require("all-minilm-l6-v2").on_demand


def test_a_catalogue_of_ones_own_is_read(tmp_path: Path):
    model = Catalogue.load(write(tmp_path, GOOD)).require("my/model")

    assert model.source == HubSource(kind="huggingface", id="org/name", revision="0123abc")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("task: generate", "task: paint"), "models.0.task"),
        (("context_length: 4096", "context_length: many"), "models.0.context_length"),
        (("context_length: 4096", "context_length: 4096\n    contxt: 1"), "models.0.contxt"),
        (("kind: huggingface", "kind: torrent"), "models.0.source"),
        (("models:", "models: ["), "not valid YAML"),
        (("models:", "modls:"), "models"),
        (("my/model", "../../etc"), "models.0.name"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], named: str):
    path = write(tmp_path, GOOD.replace(*change))

    with pytest.raises(CatalogueError, match=named.replace(".", r"\.")) as raised:
        Catalogue.load(path)
    assert "catalogue.yaml" in str(raised.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path):
    with pytest.raises(CatalogueError, match="my/model"):
        Catalogue.load(write(tmp_path, GOOD + GOOD.replace("models:\n", "").lstrip("\n")))


def test_an_unknown_model_and_a_missing_file_are_told(tmp_path: Path):
    with pytest.raises(CatalogueError, match="smollm2-135m-instruct"):
        Catalogue.load(None).require("gpt-5")
    with pytest.raises(CatalogueError, match="No such file"):
        Catalogue.load(tmp_path / "none.yaml")
