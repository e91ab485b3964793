"""What a study may be asked for."""

import pytest
import yaml
from pydantic import ValidationError

from contracts.studies import Measurement, StudyPlan, default_variants
from tests.processes import ROOT

QUANTISED = {"name": "w8a8", "technique": "quantise", "scheme": "w8a8"}


def plan(*variants: dict) -> StudyPlan:
    return StudyPlan.model_validate({"model": "m", "conversations_file": "file-1", "variants": variants})


def test_the_default_variants_build_on_earlier_ones():
    names = [variant.name for variant in default_variants()]
    assert plan(*(variant.model_dump() for variant in default_variants())).variants == default_variants()
    assert names.index("student") < names.index("student-draft")


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([QUANTISED, QUANTISED], "two have the name `w8a8`"),
        ([QUANTISED | {"of": "student"}], "`student`, which is not before it"),
        ([QUANTISED | {"name": "baseline"}], "two have the name `baseline`"),
        ([QUANTISED | {"scheme": "fp8", "algorithm": "gptq"}], "rounded by `rtn` only"),
        ([{"name": "d", "technique": "serve", "serving": {"speculation": {"method": "draft"}}}], "`draft` belongs to"),
        ([{"name": "s", "technique": "prune_weights", "pattern": "2:4", "sparsity": 0.6}], "sparsity of 0.5"),
        ([], "at least 1"),
    ],
)
def test_variants_that_make_no_sense_are_refused(variants: list[dict], words: str):
    with pytest.raises(ValidationError, match=words):
        plan(*variants)


def test_streams_begin_with_one():
    with pytest.raises(ValidationError, match="begin with 1"):
        Measurement(streams=(8, 32))


@pytest.mark.parametrize("name", ["study.yaml", "small-study.yaml"])
def test_the_examples_are_plans(name: str):
    example = yaml.safe_load((ROOT / "examples" / name).read_text())
    found = StudyPlan.model_validate({"model": "m", "conversations_file": "file-1", **example})
    assert {variant.technique for variant in found.variants} >= {"serve", "quantise", "prune_layers", "distil"}
