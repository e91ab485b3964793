"""Uploaded files and uploads in parts, in the shape of OpenAI's objects."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FilePurpose = Literal["fine-tune", "evals"]
UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class StoredFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    filename: str
    purpose: FilePurpose
    bytes: int
    digest: str = Field(description="`sha256:…` of the content.")
    artifact: str = Field(description="Path in the artifact store.")
    created_at: int


class StoredUpload(BaseModel):
    """A file that comes in parts."""

    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    filename: str
    purpose: FilePurpose
    bytes: int = Field(description="Of the whole file, as announced.")
    status: UploadStatus
    file: str | None = Field(None, description="The file that was made of the parts.")
    created_at: int
    expires_at: int


class UploadPart(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    upload: str
    bytes: int
    created_at: int
