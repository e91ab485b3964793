"""How weights say they are served."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.serving import SERVING_FILE, ServingFileInvalid, ServingOptions, Speculation


def test_options_come_back_as_they_were_written(tmp_path: Path):
    options = ServingOptions(adapters=False, speculation=Speculation(method="ngram", tokens=5), kv_cache_dtype="fp8")
    options.write(tmp_path)
    assert ServingOptions.read(tmp_path) == options


def test_weights_without_the_file_ask_for_nothing(tmp_path: Path):
    assert ServingOptions.read(tmp_path) == ServingOptions()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ('{"speculation": {"method": "ngram", "tokens": 99}}', "speculation.tokens"),
        ('{"trust_remote_code": true}', "trust_remote_code"),
        ("no JSON", "the file"),
    ],
)
def test_a_file_that_no_engine_may_follow_is_refused_by_its_field(tmp_path: Path, content: str, field: str):
    (tmp_path / SERVING_FILE).write_text(content)
    with pytest.raises(ServingFileInvalid, match=field):
        ServingOptions.read(tmp_path)


def test_a_draft_matches_no_ngrams():
    with pytest.raises(ValidationError, match="longest_match"):
        Speculation(method="draft", longest_match=3)
