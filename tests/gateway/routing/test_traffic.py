"""The table of fallbacks, aliases and shadows."""

from collections import Counter
from pathlib import Path

import pytest

from contracts.routing import AliasTarget, RoutingTable, ShadowTarget
from gateway.routing.traffic import RoutingFileUnusable, Traffic, read_routing_table

SUBJECTS = [f"user-{number}" for number in range(4000)]


def alias(**weights: float) -> RoutingTable:
    return RoutingTable(aliases={"assistant": tuple(AliasTarget(model=m, weight=w) for m, w in weights.items())})


def models_of(traffic: Traffic) -> list[str]:
    return [traffic.model_for("assistant", subject) for subject in SUBJECTS]


def test_users_are_shared_by_weight_and_keep_their_model():
    traffic = Traffic(alias(stable=9, candidate=1))
    models = models_of(traffic)

    assert 0.08 < Counter(models)["candidate"] / len(models) < 0.12
    assert models == models_of(Traffic(alias(candidate=1, stable=9)))


def test_a_replaced_table_counts_at_once_and_moves_only_as_many_as_it_says():
    traffic = Traffic(alias(stable=9, candidate=1))
    before = models_of(traffic)
    traffic.replace(alias(stable=5, candidate=5))
    after = models_of(traffic)

    assert 0.46 < Counter(after)["candidate"] / len(after) < 0.54
    assert not [1 for old, new in zip(before, after, strict=True) if (old, new) == ("candidate", "stable")]
    traffic.replace(RoutingTable())
    assert not traffic.is_alias("assistant")


def test_a_share_of_the_requests_is_shadowed():
    traffic = Traffic(RoutingTable(shadows={"assistant": ShadowTarget(model="next", share=0.3)}))
    shadows = Counter(traffic.shadow_of("assistant", "stable") for _ in range(4000))

    assert 1000 < shadows["next"] < 1400
    assert traffic.shadow_of("other", "stable") is None


def test_the_file_is_read(tmp_path: Path):
    file = tmp_path / "routing.yaml"
    file.write_text("fallbacks: {large: [small]}\n")

    assert read_routing_table(file).fallbacks == {"large": ("small",)}
    file.write_text("")
    assert read_routing_table(file) == read_routing_table(None) == RoutingTable()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fallbacks: [", "not valid YAML"),
        ("fallback: {}", "fallback"),
        ("aliases: {a: []}", "aliases.a"),
        ("aliases: {a: [{model: m, weight: 0}]}", "aliases.a.0.weight"),
        ("aliases: {a: [{model: m, weight: .nan}]}", "aliases.a.0.weight"),
        ("shadows: {a: {model: m, share: 2}}", "shadows.a.share"),
        ("aliases: {a: [{model: m}], b: [{model: a}]}", "cannot stand for another alias: a"),
        ("- a list", "routing.yaml"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str):
    file = tmp_path / "routing.yaml"
    file.write_text(text)

    with pytest.raises(RoutingFileUnusable, match=says):
        read_routing_table(file)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(RoutingFileUnusable, match="No such file"):
        read_routing_table(tmp_path / "nowhere.yaml")
