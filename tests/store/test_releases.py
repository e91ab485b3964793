"""Aliases and releases in SQL: who wins a race, and what a move changes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.releases import Alias, ArmFigures, Evidence, Move, Policy, Release
from store.aliases import AliasBusy, AliasExists, AliasRepository
from store.database import Database
from store.release_figures import ReleaseFigures
from store.releases import AliasTaken, ReleaseRepository

RACERS = 4


@pytest.fixture
def aliases(database: Database) -> AliasRepository:
    return AliasRepository(database)


@pytest.fixture
def releases(database: Database) -> ReleaseRepository:
    return ReleaseRepository(database)


@pytest.fixture
def alias(aliases: AliasRepository) -> Alias:
    return aliases.create("assistant", owner="acme", model="old")


def start(releases: ReleaseRepository, alias: Alias, candidate: str = "new") -> Release:
    return releases.start(alias, candidate=candidate, policy=Policy(), tenant="acme", actor="key_1")


def move_to(state: str, stage: int = 0, **fields: Any) -> Move:
    return Move.model_validate({"state": state, "stage": stage, "reason": "because"} | fields)


def test_tenants_have_aliases_of_the_same_name_beside_a_shared_one(aliases: AliasRepository, alias: Alias):
    aliases.create("assistant", owner="other", model="theirs")
    aliases.create("assistant", owner=None, model="everyones")
    with pytest.raises(AliasExists):
        aliases.create("assistant", owner="acme", model="again")
    with pytest.raises(AliasExists):
        aliases.create("assistant", owner=None, model="again")

    assert {found.model for found in aliases.visible_to("acme")} == {"old", "everyones"}
    assert aliases.get("assistant", owner=None).tenant is None
    assert aliases.delete("assistant", owner="other")
    assert not aliases.delete("assistant", owner="other")
    assert aliases.get("assistant", owner="acme") == alias


def test_an_alias_has_one_release_at_a_time_and_is_kept_meanwhile(
    aliases: AliasRepository, releases: ReleaseRepository, alias: Alias
):
    release = start(releases, alias)
    with pytest.raises(AliasTaken):
        start(releases, alias, "another")
    with pytest.raises(AliasTaken):
        start(releases, aliases.get("assistant", owner="acme"), "another")
    with pytest.raises(AliasBusy):
        aliases.delete("assistant", owner="acme")

    assert releases.under_way() == [release]
    assert [(route.alias.release, route.release) for route in aliases.routes()] == [(release.id, release)]
    assert aliases.using("new") == aliases.using("old") == ["assistant"]
    assert aliases.using("another") == []


def test_a_promotion_changes_what_the_alias_stands_for_and_a_roll_back_changes_it_back(
    aliases: AliasRepository, releases: ReleaseRepository, alias: Alias
):
    promoted = releases.move(start(releases, alias), move_to("promoted"), actor="key_1")
    after = aliases.get("assistant", owner="acme")
    assert (after.model, after.release, releases.under_way()) == ("new", None, [])
    assert promoted.finished_at is not None

    back = releases.move(promoted, move_to("rolled_back"), actor="key_2")
    assert (back.state, aliases.get("assistant", owner="acme").model) == ("rolled_back", "old")
    assert [(move.from_state, move.state, move.actor) for move in releases.moves(back.id)] == [
        (None, "built", "key_1"),
        ("built", "promoted", "key_1"),
        ("promoted", "rolled_back", "key_2"),
    ]


def test_a_roll_back_during_a_release_leaves_the_stable_model(
    aliases: AliasRepository, releases: ReleaseRepository, alias: Alias
):
    releases.move(start(releases, alias), move_to("rolled_back"), actor="controller")
    after = aliases.get("assistant", owner="acme")
    assert (after.model, after.release) == ("old", None)
    assert start(releases, after, "next").candidate == "next"


def test_a_promotion_that_was_followed_by_another_is_not_undone(
    aliases: AliasRepository, releases: ReleaseRepository, alias: Alias
):
    first = releases.move(start(releases, alias), move_to("promoted"), actor="key_1")
    second = start(releases, aliases.get("assistant", owner="acme"), "newer")
    with pytest.raises(AliasTaken):
        releases.move(first, move_to("rolled_back"), actor="key_1")
    assert releases.get(first.id) == first  # nothing of it was written
    releases.move(second, move_to("promoted"), actor="key_1")
    with pytest.raises(AliasTaken):
        releases.move(first, move_to("rolled_back"), actor="key_1")
    assert aliases.get("assistant", owner="acme").model == "newer"


def test_evidence_comes_back_as_it_was(releases: ReleaseRepository, alias: Alias):
    evidence = Evidence(look=3, stable=ArmFigures(requests=9, time_to_first_token={-3: 4}), candidate=ArmFigures())
    release = start(releases, alias)
    assert releases.note_look(release, evidence, next_look_at=25)
    looked = releases.get(release.id)
    assert (looked.evidence, looked.looks, looked.next_look_at) == (evidence, 1, 25)

    moved = releases.move(looked, move_to("canary", 1, evidence=evidence), actor="controller")
    assert (moved.evidence, moved.looks, moved.next_look_at, moved.stage_name) == (None, 0, 20, "canary-1")
    assert releases.moves(release.id)[-1].evidence == evidence


def test_what_was_decided_on_an_older_version_changes_nothing(releases: ReleaseRepository, alias: Alias):
    old = start(releases, alias)
    assert releases.note_evaluation(old, "ftjob-1")
    assert not releases.note_evaluation(old, "ftjob-2")
    assert not releases.note_look(old, Evidence(), next_look_at=1)
    assert releases.move(old, move_to("canary"), actor="controller") is None
    assert releases.get(old.id).evaluation_job == "ftjob-1"
    assert len(releases.moves(old.id)) == 1


def test_of_connections_that_move_a_release_at_once_one_does(
    empty_database_url: str, releases: ReleaseRepository, alias: Alias
):
    release = start(releases, alias)
    with ThreadPoolExecutor(RACERS) as racers:
        won = sum(racers.map(_race_to_the_end, [(empty_database_url, release.id)] * RACERS))

    moves = releases.moves(release.id)
    assert [move.version for move in moves] == list(range(len(moves)))
    assert won == len(moves) - 1 == ROUNDS + 1
    assert moves[-1].state == "promoted"


ROUNDS = 20


def _race_to_the_end(which: tuple[str, str]) -> int:
    """Moves a release on until it is promoted. How many of the moves were ours."""
    database_url, release_id = which
    database = Database(database_url)
    releases, won = ReleaseRepository(database), 0
    while (release := releases.get(release_id)).state != "promoted":
        last = release.version == ROUNDS
        moved = releases.move(release, move_to("promoted" if last else "canary", release.version), actor="racer")
        won += moved is not None
    database.dispose()
    return won


def test_pages_go_from_new_to_old(aliases: AliasRepository, releases: ReleaseRepository):
    for name, owner in (("a", "acme"), ("b", None), ("c", "other")):
        start(releases, aliases.create(name, owner=owner, model="old"))
    both = releases.page(tenant="acme")
    assert {release.alias for release in both} == {"a", "b"}
    assert releases.page(tenant="acme", limit=1) == both[:1]
    assert releases.page(tenant="acme", after=both[0].id) == both[1:]
    assert [release.alias for release in releases.page(tenant="acme", alias="b")] == ["b"]


async def test_figures_of_several_gateways_add_up(redis: Redis):
    figures = ReleaseFigures(redis)
    for _ in range(2):
        await figures.add(
            {
                ("release-1", "canary-0", "candidate"): {"requests": 3, "errors": 1, "first-token:-7": 2, "pace:60": 3},
                ("release-1", "canary-0", "stable"): {"requests": 5},
            }
        )
    read = await figures.read("release-1", "canary-0")
    assert read["stable"] == ArmFigures(requests=10)
    assert read["candidate"] == ArmFigures(requests=6, errors=2, time_to_first_token={-7: 4}, tokens_per_second={60: 6})
    assert (await figures.read("release-1", "canary-1"))["stable"] == ArmFigures()
    assert await redis.ttl("flywheel:{release-1}:figures:canary-0:stable") > 0
