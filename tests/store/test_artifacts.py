import io
from pathlib import Path
from threading import Thread

import fsspec
import pytest

from contracts.identifiers import new_id
from store.artifacts import ArtifactRefused, ArtifactStore, ArtifactsUnavailable, DigestMismatch, folder_digest
from tests.s3_server import BUCKET, S3Server


@pytest.fixture(params=["file", "s3"])
def artifacts(request: pytest.FixtureRequest, artifacts: ArtifactStore) -> ArtifactStore:
    """In a folder and in a bucket."""
    if request.param == "file":
        return artifacts
    request.getfixturevalue("s3")
    return ArtifactStore(f"s3://{BUCKET}/{new_id('test')}")


in_a_folder = pytest.mark.parametrize("artifacts", ["file"], indirect=True)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "adapter"
    (folder / "nested").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "nested" / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 1000)
    return folder


def test_what_was_written_is_read_in_chunks_and_lines(artifacts: ArtifactStore) -> None:
    artifacts.write("files/a", io.BytesIO(b"one\ntwo\n"))
    assert b"".join(artifacts.read("files/a")) == b"one\ntwo\n"
    assert list(artifacts.lines("files/a")) == [b"one\n", b"two\n"]


def test_a_second_write_replaces_the_first(artifacts: ArtifactStore) -> None:
    artifacts.write("a", io.BytesIO(b"a longer text"))
    artifacts.write("a", io.BytesIO(b"short"))
    assert b"".join(artifacts.read("a")) == b"short"


def test_what_is_not_there_is_not_found(artifacts: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(artifacts.read("nothing"))
    with pytest.raises(FileNotFoundError):
        artifacts.download_folder("nothing", tmp_path / "here", digest="sha256:0")
    assert not (tmp_path / "here").exists()


def test_deleting_is_possible_twice(artifacts: ArtifactStore) -> None:
    artifacts.write("folder/a", io.BytesIO(b"a"))
    artifacts.delete("folder")
    artifacts.delete("folder")
    with pytest.raises(FileNotFoundError):
        list(artifacts.read("folder/a"))


@pytest.mark.parametrize("path", ["../outside", "files/../../outside", "files/.."])
def test_no_path_leads_out_of_the_store(artifacts: ArtifactStore, tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"\.\."):
        artifacts.write(path, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match=r"\.\."):
        artifacts.delete(path)
    assert not (tmp_path / "outside").exists()


def test_an_absolute_path_stays_within_the_store(artifacts: ArtifactStore, tmp_path: Path) -> None:
    artifacts.write(f"{tmp_path}/outside", io.BytesIO(b"x"))
    assert not (tmp_path / "outside").exists()


def test_a_folder_travels_whole(artifacts: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    copy = tmp_path / "engine" / "adapter"
    artifacts.download_folder("models/ftjob-1", copy, digest=digest)
    assert folder_digest(copy) == digest == folder_digest(adapter)
    assert (copy / "nested" / "adapter_model.safetensors").stat().st_size == 256_000


def test_the_digest_tells_contents_and_names_apart(adapter: Path) -> None:
    before = folder_digest(adapter)
    config = adapter / "adapter_config.json"
    config.write_text("{ }")
    changed = folder_digest(adapter)
    config.write_text("{}")
    config.rename(adapter / "other.json")
    assert len({before, changed, folder_digest(adapter)}) == 3


def test_a_damaged_artifact_is_refused_and_leaves_nothing(
    artifacts: ArtifactStore, adapter: Path, tmp_path: Path
) -> None:
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    artifacts.write("models/ftjob-1/adapter_config.json", io.BytesIO(b"{"))
    with pytest.raises(DigestMismatch):
        artifacts.download_folder("models/ftjob-1", tmp_path / "engine" / "adapter", digest=digest)
    assert list((tmp_path / "engine").iterdir()) == []


def test_a_damaged_local_copy_is_fetched_again_and_an_intact_one_kept(
    artifacts: ArtifactStore, adapter: Path, tmp_path: Path
) -> None:
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    copy = tmp_path / "engine" / "adapter"
    artifacts.download_folder("models/ftjob-1", copy, digest=digest)
    (copy / "adapter_config.json").write_text("damaged")
    artifacts.download_folder("models/ftjob-1", copy, digest=digest)
    assert folder_digest(copy) == digest
    artifacts.delete("models/ftjob-1")
    artifacts.download_folder("models/ftjob-1", copy, digest=digest)


def test_a_folder_appears_whole_or_not_at_all(artifacts: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    for number in range(200):
        (adapter / f"part-{number:03}").write_bytes(b"x" * 1000)
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    copy = tmp_path / "engine" / "adapter"
    download = Thread(target=artifacts.download_folder, args=("models/ftjob-1", copy), kwargs={"digest": digest})
    download.start()
    while not copy.exists():
        assert download.is_alive() or copy.exists()
    assert folder_digest(copy) == digest
    download.join()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "nested/weights.pt", "a.pkl", "weights"])
def test_a_model_with_a_file_that_could_run_code_never_reaches_this_machine(
    artifacts: ArtifactStore, adapter: Path, tmp_path: Path, name: str
) -> None:
    refuses(artifacts, adapter, tmp_path, name)


@in_a_folder
def test_nor_does_a_name_with_a_control_character(artifacts: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    """moto's server knows no such names."""
    refuses(artifacts, adapter, tmp_path, "a\nb.json")


def refuses(artifacts: ArtifactStore, adapter: Path, tmp_path: Path, name: str) -> None:
    (adapter / name).write_bytes(b"x")
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    with pytest.raises(ArtifactRefused, match="a model"):
        artifacts.download_model("models/ftjob-1", tmp_path / "engine", digest=digest)
    assert not (tmp_path / "engine").exists()


@in_a_folder
def test_links_are_neither_stored_nor_followed(artifacts: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    digest = artifacts.upload_folder(adapter, "models/ftjob-1")
    (tmp_path / "artifacts/models/ftjob-1/link.json").symlink_to(secret)
    with pytest.raises(ArtifactRefused, match="link"):
        artifacts.download_model("models/ftjob-1", tmp_path / "engine", digest=digest)
    (adapter / "link.json").symlink_to(secret)
    with pytest.raises(ArtifactRefused, match="link"):
        artifacts.upload_folder(adapter, "models/ftjob-2")


@pytest.mark.usefixtures("s3")
def test_what_others_write_into_a_bucket_and_delete_is_seen() -> None:
    """No listing is remembered: gateways, workers and engines share the bucket."""
    others = fsspec.filesystem("s3", skip_instance_cache=True)
    folder = new_id("test")
    artifacts = ArtifactStore(f"s3://{BUCKET}/{folder}")
    artifacts.write("models/a/config.json", io.BytesIO(b"{}"))
    assert artifacts.files("models/a") == ["models/a/config.json"]
    assert artifacts.size("models/b") == 0

    for name in ("a/pytorch_model.bin", "b/config.json"):
        others.pipe(f"{BUCKET}/{folder}/models/{name}", b"12345")

    assert artifacts.files("models/a") == ["models/a/config.json", "models/a/pytorch_model.bin"]
    assert artifacts.size("models/b") == 5
    with pytest.raises(ArtifactRefused):
        artifacts.check_model("models/a")
    others.rm(f"{BUCKET}/{folder}/models/b/config.json")
    assert artifacts.files("models/b") == []


def test_a_bucket_that_does_not_answer_is_told_apart_from_one_that_lacks_something(
    adapter: Path, tmp_path: Path, own_s3: S3Server
) -> None:
    fsspec.filesystem("s3").clear_instance_cache()  # it knows the address of the run's other server
    artifacts = ArtifactStore(f"s3://{BUCKET}/away")
    digest = artifacts.upload_folder(adapter, "models/a")
    own_s3.stop()

    for call in (
        lambda: artifacts.write("a", io.BytesIO(b"a")),
        lambda: list(artifacts.lines("a")),
        lambda: artifacts.download_model("models/a", tmp_path / "copy", digest=digest),
    ):
        with pytest.raises(ArtifactsUnavailable):
            call()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.usefixtures("s3")
def test_what_s3_did_not_delete_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers 200 and names such keys in the answer, of which s3fs says nothing."""
    artifacts = ArtifactStore(f"s3://{BUCKET}/{new_id('test')}")
    artifacts.write("files/a", io.BytesIO(b"a"))
    monkeypatch.setattr(type(fsspec.filesystem("s3")), "_bulk_delete", refuse_to_delete)
    with pytest.raises(PermissionError):
        artifacts.delete("files/a")
    assert artifacts.files("files") == ["files/a"]


async def refuse_to_delete(*_arguments: object, **_options: object) -> list[str]:
    return []


@pytest.mark.usefixtures("s3")
def test_what_no_attempt_can_change_is_not_taken_for_a_bucket_that_is_away() -> None:
    with pytest.raises(PermissionError, match="Parameter validation failed"):
        ArtifactStore("s3://no_such name/artifacts").files("a")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_not_made() -> None:
    with pytest.raises(FileNotFoundError):
        ArtifactStore("s3://misspelt/artifacts").write("a", io.BytesIO(b"a"))
    assert not fsspec.filesystem("s3", skip_instance_cache=True).exists("misspelt")
