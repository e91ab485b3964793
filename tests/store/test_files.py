import pytest

from contracts.files import StoredFile
from store.database import Database
from store.files import FileRepository


@pytest.fixture
def files(database: Database) -> FileRepository:
    return FileRepository(database)


def stored(identifier: str, tenant: str = "acme", created_at: int = 1) -> StoredFile:
    return StoredFile(
        id=identifier,
        tenant=tenant,
        filename="rows.jsonl",
        purpose="fine-tune",
        bytes=3,
        digest="sha256:0",
        artifact=f"files/{identifier}",
        created_at=created_at,
    )


def test_a_file_belongs_to_its_tenant_alone(files: FileRepository) -> None:
    files.add(stored("file-1"))
    assert files.get("file-1", tenant="acme") == stored("file-1")
    assert files.get("file-1", tenant="rival") is None
    assert files.delete("file-1", tenant="rival") is None
    assert files.page(tenant="rival") == []


def test_a_deleted_file_is_gone(files: FileRepository) -> None:
    files.add(stored("file-1"))
    assert files.delete("file-1", tenant="acme") == stored("file-1")
    assert files.get("file-1", tenant="acme") is None


def test_pages_are_newest_first_and_miss_none_of_the_same_second(files: FileRepository) -> None:
    for identifier, created_at in [("file-a", 1), ("file-b", 2), ("file-c", 2), ("file-d", 3)]:
        files.add(stored(identifier, created_at=created_at))
    seen: list[str] = []
    while page := files.page(tenant="acme", after=seen[-1] if seen else None, limit=1):
        seen += [file.id for file in page]
    assert seen == ["file-d", "file-c", "file-b", "file-a"]
