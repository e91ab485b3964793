import pytest

from contracts.identifiers import SUFFIX_PATTERN, fine_tuned_model_name, new_id


def test_identifiers_name_their_kind_and_do_not_repeat() -> None:
    made = {new_id("ftjob") for _ in range(1000)}
    assert len(made) == 1000
    assert all(identifier.startswith("ftjob-") for identifier in made)
    assert new_id("key").startswith("key_")


def test_a_fine_tuned_model_is_named_as_openai_names_them() -> None:
    assert fine_tuned_model_name("smol", "acme", "support", "ftjob-0123456789ab") == "ft:smol:acme:support:01234567"
    assert fine_tuned_model_name("smol", "acme", None, "ftjob-0123456789ab") == "ft:smol:acme::01234567"


@pytest.mark.parametrize("suffix", ["", "-a", "a:b", "a/b", "a" * 65, "a b", "..", "a\n"])
def test_a_suffix_that_would_break_a_name_is_refused(suffix: str) -> None:
    assert SUFFIX_PATTERN.fullmatch(suffix) is None
